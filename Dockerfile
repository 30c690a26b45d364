# One file for three images; all run as uid 10001 on a read-only root file system and need no network.
#
#   docker build -t robomask:cpu .                              serving on CPUs
#   docker build -t robomask:gpu --build-arg VARIANT=gpu .      serving on NVIDIA GPUs (driver from the node)
#   docker build -t robomask:train --target train .             training and export
#
# A release pins its base by digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
# Two things come from outside: the base, and Python packages from the index that pip is configured for.
ARG BASE=python:3.11-slim-bookworm
ARG VARIANT=cpu

# --- The extras of pyproject.toml that each variant installs, and its own environment.
FROM ${BASE} AS base
ENV PATH=/opt/robomask/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    USER=robomask

FROM base AS cpu
ENV EXTRA=serve

# Without a CUDA base image: ONNX Runtime's own extras bring the CUDA libraries as packages. NVIDIA_VISIBLE_DEVICES is
# left to the device plugin, for an image that says "all" takes every GPU of a node, granted or not.
FROM base AS gpu
ENV EXTRA=gpu \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_CACHE_PATH=/tmp/cuda

# --- Packages, in a virtual environment that is copied as a whole. First what the project needs, which changes rarely.
FROM ${VARIANT} AS serve-packages
WORKDIR /src
RUN python -m venv --without-pip /opt/robomask
COPY pyproject.toml README.md LICENSE ./
RUN --mount=type=cache,target=/root/.cache/pip \
    touch robomask.py && \
    pip --python /opt/robomask/bin/python install --disable-pip-version-check --only-binary :all: ".[$EXTRA]"
COPY robomask.py ./
COPY service service
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/robomask/bin/python install --disable-pip-version-check --no-deps --force-reinstall .

FROM base AS train-packages
WORKDIR /src
RUN python -m venv --without-pip /opt/robomask
COPY pyproject.toml README.md LICENSE ./
# No --only-binary: one reader of TFRecords is published as source (pure Python).
RUN --mount=type=cache,target=/root/.cache/pip \
    touch robomask.py && \
    pip --python /opt/robomask/bin/python install --disable-pip-version-check ".[train]"
COPY robomask.py ./
COPY service service
COPY training training
COPY export export
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/robomask/bin/python install --disable-pip-version-check --no-deps --force-reinstall .

# --- Training and export: runs, data and the model repository are volumes.
FROM base AS train
ARG REVISION=unknown
LABEL org.opencontainers.image.title="robomask training" \
      org.opencontainers.image.description="Trains and exports models that tell a robot's own arm from its surroundings" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=train-packages /opt/robomask /opt/robomask
WORKDIR /work
USER 10001:10001
# A job that ends is not asked for its health.
HEALTHCHECK NONE
ENTRYPOINT ["robomask"]
CMD ["--help"]

# --- Serving, the default target.
FROM ${VARIANT} AS serve
ARG REVISION=unknown
ARG VARIANT
LABEL org.opencontainers.image.title="robomask (${VARIANT})" \
      org.opencontainers.image.description="Frame in, mask out: tells a robot's own arm from the rest of what its camera sees" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=serve-packages /opt/robomask /opt/robomask
# The shipped model; mount another repository over it.
COPY models /models
ENV ROBOMASK_HOST=0.0.0.0 \
    ROBOMASK_PORT=8000 \
    ROBOMASK_MODELS=/models
WORKDIR /
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# For Docker and Compose; Kubernetes has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['ROBOMASK_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["robomask"]
CMD ["serve"]
