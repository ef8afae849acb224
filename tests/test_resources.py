import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoconflict.config.models import HubModel, LocalModel, PackagedModel, TinyModel
from infoconflict.resources import (
    LARGEST_MB,
    LONGEST_MINUTES,
    NEEDS,
    UNKNOWN_PARAMETERS,
    mem_mb_of,
    parameters_by_name,
    parameters_of,
    runtime_of,
)

SMALL = PackagedModel(source="packaged", package="smollm2_135m_instruct")
LLAMA = HubModel(source="hub", repo="meta-llama/Llama-2-7b-hf", revision="main")
STAGES = st.sampled_from(sorted(NEEDS))


@pytest.mark.parametrize(
    ("repo", "parameters"),
    [
        ("meta-llama/Llama-2-7b-hf", 7e9),
        ("huggyllama/llama-7b", 7e9),
        ("EleutherAI/gpt-j-6b", 6e9),
        ("EleutherAI/gpt-j-6B", 6e9),
        ("openai-community/gpt2-xl", 1.56e9),
        ("gpt2", 124e6),
        ("EleutherAI/pythia-1.4b", 1.4e9),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135e6),
        ("someone/Mixtral-8x7B-v0.1", 56e9),
        ("someone/llama-13b-4bit", 13e9),
        ("someone/mystery", UNKNOWN_PARAMETERS),
        ("7b/mystery-4bit", UNKNOWN_PARAMETERS),
    ],
)
def test_size_from_the_name(repo, parameters):
    assert parameters_by_name(repo) == pytest.approx(parameters)


def test_size_of_other_sources(tmp_path):
    assert parameters_of(SMALL) == 135e6
    assert parameters_of(LLAMA) == 7e9
    assert parameters_of(TinyModel(source="tiny", architecture="gptj")) == 1e6
    local = LocalModel(source="local", path=str(tmp_path))
    assert parameters_of(local) == UNKNOWN_PARAMETERS
    (tmp_path / "a.safetensors").write_bytes(bytes(1000))
    (tmp_path / "b.safetensors").write_bytes(bytes(600))
    (tmp_path / "notes.txt").write_bytes(bytes(10**6))
    assert parameters_of(local) == 800


def test_worked_example():
    # Two copies of 7e9 weights of 4 bytes are 56 GB, and 3 GB for the rest; 60 minutes and 60 per billion weights.
    assert [mem_mb_of("train_backdoored", LLAMA, attempt) for attempt in (1, 2, 3)] == [59_000, 88_500, 118_000]
    assert [runtime_of("train_backdoored", LLAMA, attempt) for attempt in (1, 2, 3)] == [480, 960, 1440]
    assert mem_mb_of("train_backdoored", LLAMA, method="full") == 143_000
    assert mem_mb_of("answer", None) == 3000


@given(stage=STAGES, attempt=st.integers(1, 50))
def test_grows_with_attempt_and_model_up_to_a_bound(stage, attempt):
    for of, largest in ((mem_mb_of, LARGEST_MB), (runtime_of, LONGEST_MINUTES)):
        assert isinstance(of(stage, LLAMA, attempt), int)
        assert of(stage, LLAMA, attempt) <= of(stage, LLAMA, attempt + 1) <= largest
        assert of(stage, None, attempt) <= of(stage, SMALL, attempt) <= of(stage, LLAMA, attempt)
    assert mem_mb_of(stage, SMALL, 2) > mem_mb_of(stage, SMALL, 1)
    assert runtime_of(stage, SMALL, 2) > runtime_of(stage, SMALL, 1)
