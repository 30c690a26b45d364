# One file for three images; all run as uid 10001 on a read-only root file system and need no network.
#
#   docker build -t robomask:cpu .                           serving on CPUs
#   docker build -t robomask:gpu --build-arg EXTRA=gpu .     serving on NVIDIA GPUs; the driver comes from the node
#   docker build -t robomask:train --target train .          training and export
#
# Two things come from outside: the base, and Python packages from the index that pip is configured for.
# A release pins its base by digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS base
ENV PATH=/opt/robomask/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    USER=robomask

# --- Packages, in a virtual environment that is copied as a whole. First what the project needs, installed beside an empty
# stand-in for it: that layer is built again only when pyproject.toml changes.
FROM base AS serve-packages
# The extra of pyproject.toml: serve, or gpu, which brings the CUDA libraries as packages, so no CUDA base is needed.
# gRPC and traces are loaded only where they are switched on.
ARG EXTRA=serve
WORKDIR /requirements
RUN python -m venv --without-pip /opt/robomask && touch robomask.py README.md LICENSE
COPY pyproject.toml ./
# hadolint ignore=DL3013 # versions stand in pyproject.toml
RUN --mount=type=cache,target=/tmp/.cache/pip \
    pip --python /opt/robomask/bin/python install --disable-pip-version-check --only-binary :all: ".[$EXTRA,grpc,otel]"
WORKDIR /src
COPY pyproject.toml README.md LICENSE robomask.py ./
COPY service service
RUN --mount=type=cache,target=/tmp/.cache/pip \
    pip --python /opt/robomask/bin/python install --disable-pip-version-check --no-deps --force-reinstall .

FROM base AS train-packages
WORKDIR /requirements
RUN python -m venv --without-pip /opt/robomask && touch robomask.py README.md LICENSE
COPY pyproject.toml ./
# hadolint ignore=DL3013 # versions stand in pyproject.toml
RUN --mount=type=cache,target=/tmp/.cache/pip \
    pip --python /opt/robomask/bin/python install --disable-pip-version-check ".[train]"
WORKDIR /src
COPY pyproject.toml README.md LICENSE robomask.py ./
COPY service service
COPY training training
COPY export export
COPY retrain retrain
RUN --mount=type=cache,target=/tmp/.cache/pip \
    pip --python /opt/robomask/bin/python install --disable-pip-version-check --no-deps --force-reinstall .

# --- Training and export: data, runs and the model repository are volumes.
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
FROM base AS serve
ARG REVISION=unknown
LABEL org.opencontainers.image.title="robomask" \
      org.opencontainers.image.description="Frame in, mask out: tells a robot's own arm from the rest of what its camera sees" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=serve-packages /opt/robomask /opt/robomask
# The shipped model; mount another repository over it.
COPY models /models
# NVIDIA_VISIBLE_DEVICES is left to the device plugin: an image that says "all" takes every GPU of a node, granted or not.
ENV ROBOMASK_HOST=0.0.0.0 \
    ROBOMASK_PORT=8000 \
    ROBOMASK_MODELS=/models \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_CACHE_PATH=/tmp/cuda
WORKDIR /
USER 10001:10001
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
# For Docker and Compose; Kubernetes has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['ROBOMASK_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["robomask"]
CMD ["serve"]
