"""The codebook: the published initialisation, and what keeps a learnt codebook safe."""

import subprocess
import sys
from pathlib import Path

import golden
import pytest
import torch
from torch.testing import assert_close

import training
from training.videogpt.codebook import Codebook
from training.videogpt.vqvae import VQVAE


@pytest.mark.parametrize("name", golden.cases("codebook_init"))
def test_first_vectors_become_the_published_codebook(name: str) -> None:
    case = golden.load(name)
    model = VQVAE(golden.vqvae_config(name)).train()
    model.load_state_dict(golden.weights(name))
    with torch.no_grad():
        assert_close(model.latents(case["in/video"]), case["out/z"], atol=1e-4, rtol=1e-4)
    vectors = case["out/z"].movedim(1, -1).flatten(0, -2)
    torch.manual_seed(case.seed)
    model.codebook.initialise(vectors)
    assert_close(model.codebook.embeddings, case["out/codebook.embeddings_seeded"], atol=1e-6, rtol=0)
    assert torch.equal(model.codebook.z_avg, model.codebook.embeddings)
    assert (model.codebook.N == 1).all()


@pytest.mark.parametrize("name", golden.cases("codebook_init"))
def test_every_first_code_is_one_of_the_vectors(name: str) -> None:
    case = golden.load(name)
    vectors = case["out/z"].movedim(1, -1).flatten(0, -2)
    codebook = Codebook(*case["out/codebook.embeddings_seeded"].shape)
    codebook.initialise(vectors)
    away = (codebook.embeddings[:, None] - vectors).norm(dim=-1).amin(1).max()
    assert away == 0 if len(vectors) >= len(codebook.N) else away < 0.1  # copies of few vectors are given some noise


def test_the_first_vectors_in_training_become_the_codebook_and_no_later_ones() -> None:
    codebook = Codebook(4, 2).train()
    assert codebook._need_init
    codebook(torch.randn(1, 2, 1, 4, 4) + 100)
    assert (codebook.z_avg / codebook.N[:, None] > 90).all()
    assert not codebook._need_init
    codebook(torch.randn(1, 2, 1, 4, 4) - 100)
    assert (codebook.z_avg > 0).all()


def test_few_vectors_are_enough_to_begin_with() -> None:
    codebook = Codebook(64, 2)
    codebook.initialise(torch.randn(3, 2))
    assert len(codebook.embeddings.unique(dim=0)) == 64


def test_a_loaded_codebook_is_not_overwritten_by_the_next_vectors() -> None:
    learnt, codebook = Codebook(4, 2), Codebook(4, 2)
    learnt.initialise(torch.randn(4, 2))
    learnt.N.fill_(1000)
    codebook.load_state_dict(learnt.state_dict())
    assert not codebook._need_init
    codebook.train()(torch.randn(1, 2, 1, 2, 2) + 100)
    assert (codebook.N > 900).all()


def test_loading_a_whole_model_counts_as_initialisation(vqvae: VQVAE) -> None:
    assert vqvae.codebook._need_init
    vqvae.load_state_dict(vqvae.state_dict())
    assert not vqvae.codebook._need_init


def test_codes_that_nothing_uses_restart_at_a_vector_and_the_others_follow() -> None:
    codebook = Codebook(2, 2).train()
    state = {"embeddings": torch.tensor([[0.0, 0], [50, 50]]), "N": torch.tensor([4.0, 1.0])}
    codebook.load_state_dict(state | {"z_avg": state["embeddings"] * state["N"][:, None]})
    vectors = torch.randn(8, 2)
    codebook(vectors.T.view(1, 2, 1, 2, 4))
    assert_close(codebook.N, torch.tensor([4 * 0.99 + 8 * 0.01, 0.99]))
    assert_close(codebook.embeddings[0], vectors.sum(0) * 0.01 / (4 * 0.99 + 8 * 0.01), atol=1e-5, rtol=1e-4)
    assert (codebook.embeddings[1] == vectors).all(1).any()
    assert_close(codebook.z_avg[1], torch.tensor([49.5, 49.5]))


def test_evaluation_changes_nothing() -> None:
    codebook = Codebook(4, 2).eval()
    before = {name: value.clone() for name, value in codebook.state_dict().items()}
    codebook(torch.randn(1, 2, 2, 2, 2))
    assert all(torch.equal(value, before[name]) for name, value in codebook.state_dict().items())


def test_the_codebook_keeps_its_precision_under_autocast() -> None:
    z = torch.randn(2, 4, 2, 8, 8)
    plain, cast = Codebook(16, 4), Codebook(16, 4)
    for codebook in (plain, cast):
        codebook.initialise(z.movedim(1, -1).flatten(0, -2)[:16])
    cast.load_state_dict(plain.state_dict())
    expected = plain(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = cast(z)
    assert got.embeddings.dtype == torch.float32
    assert torch.equal(got.codes, expected.codes)
    assert torch.equal(cast.N, plain.N)
    assert torch.equal(cast.z_avg, plain.z_avg)


def test_gradients_pass_straight_through() -> None:
    z = torch.randn(1, 4, 1, 2, 2, requires_grad=True)
    Codebook(16, 4).eval()(z).embeddings.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))


PROCESS = """
import sys, torch
from torch import distributed
from training.videogpt.codebook import Codebook
rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
start, vectors = torch.load(f"{folder}/start.pt", weights_only=True)
torch.manual_seed(rank)
fresh = Codebook(*start["embeddings"].shape).train()
fresh.initialise(vectors[rank])
codebook = Codebook(*start["embeddings"].shape).train()
codebook.load_state_dict(start)
codebook(vectors[rank].T.view(1, -1, 1, 4, 4))
torch.save((fresh.state_dict(), codebook.state_dict()), f"{folder}/end{rank}.pt")
distributed.destroy_process_group()
"""


def test_two_processes_keep_one_codebook_over_the_vectors_of_both(tmp_path: Path) -> None:
    start = Codebook(6, 3)
    start.initialise(torch.randn(6, 3))
    vectors = torch.randn(2, 16, 3)
    torch.save((start.state_dict(), vectors), tmp_path / "start.pt")
    repository = Path(training.__file__).parents[1]
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)], cwd=repository) for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    ends = [torch.load(tmp_path / f"end{rank}.pt", weights_only=True) for rank in (0, 1)]
    for first, second in zip(*ends, strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)
    alone = Codebook(6, 3).train()
    alone.load_state_dict(start.state_dict())
    alone(vectors.flatten(0, 1).T.view(1, 3, 1, 4, 8))
    assert_close(ends[0][1]["N"], alone.N)
    assert_close(ends[0][1]["z_avg"], alone.z_avg)
