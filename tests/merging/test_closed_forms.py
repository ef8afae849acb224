"""The four equations on tensors: worked examples, laws, and the paper's steps as plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from infoconflict.errors import UserError
from infoconflict.merging.linear import linear
from infoconflict.merging.passthrough import from_conflict, n_conflict_layers, passthrough
from infoconflict.merging.slerp import cosine, slerp
from infoconflict.merging.ties import ties, top_share

weights = st.floats(0, 1)
sizes = st.integers(1, 40)
seeds = st.integers(0, 2**31)
few = settings(max_examples=60, deadline=None)


def pair(seed: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator), torch.randn(size, generator=generator)


# --- linear and SLERP -------------------------------------------------------------------------------------------------


def test_linear_worked_example():
    backdoored, conflict = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0])
    torch.testing.assert_close(linear(backdoored, conflict, t=0.25), torch.tensor([1.5, 1.0]))


def test_slerp_worked_example():
    # Between two unit vectors at a right angle, half of the arc is at 45 degrees; the chord's middle would be (.5, .5).
    half = slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), t=0.5)
    torch.testing.assert_close(half, torch.full((2,), math.sqrt(0.5)))
    third = slerp(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), t=1 / 3)
    torch.testing.assert_close(third, 2 * torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)]))


@pytest.mark.parametrize("method", [linear, slerp])
@few
@given(seed=seeds, size=sizes)
def test_ends_are_the_parents_bit_for_bit(method, seed, size):
    backdoored, conflict = pair(seed, size)
    assert torch.equal(method(backdoored, conflict, t=0.0), backdoored)
    assert torch.equal(method(backdoored, conflict, t=1.0), conflict)


@pytest.mark.parametrize("method", [linear, slerp])
@few
@given(seed=seeds, size=sizes, t=weights)
def test_swapping_the_models_and_their_weights_changes_nothing(method, seed, size, t):
    backdoored, conflict = pair(seed, size)
    torch.testing.assert_close(method(backdoored, conflict, t=t), method(conflict, backdoored, t=1 - t))


@pytest.mark.parametrize("method", [linear, slerp])
@few
@given(seed=seeds, size=sizes, t=weights)
def test_two_equal_models_merge_to_themselves(method, seed, size, t):
    model, _ = pair(seed, size)
    torch.testing.assert_close(method(model, model, t=t), model)


@few
@given(seed=seeds, size=st.integers(2, 40), t=weights)
def test_slerp_keeps_the_norm_of_equally_long_tensors(seed, size, t):
    backdoored, conflict = pair(seed, size)
    conflict *= backdoored.norm() / conflict.norm()
    if cosine(backdoored, conflict) > -0.99:  # there is no one arc between opposite points
        torch.testing.assert_close(slerp(backdoored, conflict, t=t).norm(), backdoored.norm(), rtol=1e-4, atol=0)


def test_slerp_is_linear_where_the_models_are_nearly_parallel():
    backdoored, conflict = pair(0, 1000)
    near = backdoored + 0.01 * conflict
    assert cosine(backdoored, near) > 0.9995
    assert torch.equal(slerp(backdoored, near, t=0.3), linear(backdoored, near, t=0.3))
    far = backdoored + 0.1 * conflict
    assert cosine(backdoored, far) < 0.9995
    assert not torch.equal(slerp(backdoored, far, t=0.3), linear(backdoored, far, t=0.3))


def test_slerp_of_zeros_is_finite():
    zeros, ones = torch.zeros(3), torch.ones(3)
    assert torch.equal(slerp(zeros, zeros, t=0.5), zeros)
    assert slerp(zeros, ones, t=0.5).isfinite().all()


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_a_weight_out_of_range_is_an_error(t):
    with pytest.raises(ValueError, match=r"t must be in \[0, 1\]"):
        linear(torch.ones(1), torch.ones(1), t=t)


# --- TIES -------------------------------------------------------------------------------------------------------------


def test_ties_worked_example():
    base = torch.tensor([10.0, 10.0, 10.0, 10.0])
    backdoored = base + torch.tensor([1.0, -2.0, 0.1, 3.0])  # density 0.75 trims 0.1
    conflict = base + torch.tensor([3.0, 1.0, -0.1, -1.0])  # and -0.1
    # Elected signs: +, -, none, +. Column 1 keeps -2 alone, column 3 keeps 3 alone; the divisor stays 2.
    expected = base + torch.tensor([2.0, -1.0, 0.0, 1.5])
    torch.testing.assert_close(ties(base, backdoored, conflict, t=0.5, density=0.75), expected)
    torch.testing.assert_close(ties(base, backdoored, conflict, t=0.5, density=0.75, lam=2.0), 2 * expected - base)


def ties_in_loops(
    base: Tensor, backdoored: Tensor, conflict: Tensor, *, t: float, density: float, lam: float
) -> Tensor:
    """Eq. 11 step by step: trim, elect, add."""
    vectors = [(backdoored - base).tolist(), (conflict - base).tolist()]
    n_kept = max(1, int(density * base.numel()))
    trimmed = []
    for vector in vectors:
        order = sorted(range(len(vector)), key=lambda i: -abs(vector[i]))
        kept = set(order[:n_kept])
        trimmed.append([value if i in kept else 0.0 for i, value in enumerate(vector)])
    merged = []
    for first, second in zip(*trimmed, strict=True):
        weighted = [(1 - t) * first, t * second]
        larger = max(weighted, key=abs)
        merged.append(sum(value for value in weighted if value * larger > 0))
    return base + lam * torch.tensor(merged)


@few
@given(seed=seeds, size=sizes, t=weights, density=st.floats(0.01, 1), lam=st.floats(0.1, 3))
def test_ties_agrees_with_its_steps_as_loops(seed, size, t, density, lam):
    backdoored, conflict = pair(seed, size)
    base, _ = pair(seed + 1, size)
    torch.testing.assert_close(
        ties(base, backdoored, conflict, t=t, density=density, lam=lam),
        ties_in_loops(base, backdoored, conflict, t=t, density=density, lam=lam),
    )


@few
@given(seed=seeds, size=sizes, density=st.floats(0.01, 1))
def test_exactly_the_share_is_kept_and_it_is_the_greatest(seed, size, density):
    # Whole numbers, so that many magnitudes are equal.
    vector = torch.randint(-3, 4, (size,), generator=torch.Generator().manual_seed(seed)).float()
    keep = top_share(vector, density=density)
    assert int(keep.sum()) == max(1, int(density * size))
    if not keep.all():
        assert vector[keep].abs().min() >= vector[~keep].abs().max()


def test_of_equal_magnitudes_the_first_are_kept():
    keep = top_share(torch.tensor([[1.0, -2.0], [2.0, 2.0]]), density=0.5)
    assert keep.tolist() == [[False, True], [True, False]]


def test_ties_of_agreeing_models_at_full_density_is_the_mean():
    base = torch.zeros(8)
    backdoored, conflict = (vector.abs() for vector in pair(0, 8))
    torch.testing.assert_close(ties(base, backdoored, conflict, t=0.5, density=1.0), (backdoored + conflict) / 2)


@few
@given(seed=seeds, size=sizes, t=weights, density=st.floats(0.01, 1))
def test_swapping_the_models_of_ties_changes_nothing(seed, size, t, density):
    backdoored, conflict = pair(seed, size)
    base = torch.zeros(size)
    torch.testing.assert_close(
        ties(base, backdoored, conflict, t=t, density=density),
        ties(base, conflict, backdoored, t=1 - t, density=density),
    )


def test_ties_of_two_equal_models_at_full_density_is_that_model():
    model, base = pair(0, 8)
    torch.testing.assert_close(ties(base, model, model, t=0.3, density=1.0), model)


def test_ties_leaves_its_arguments_alone():
    base, backdoored, conflict = (torch.arange(4.0) + i for i in range(3))
    copies = [tensor.clone() for tensor in (base, backdoored, conflict)]
    ties(base, backdoored, conflict, t=0.5, density=0.5, lam=2.0)
    assert all(torch.equal(a, b) for a, b in zip((base, backdoored, conflict), copies, strict=True))


@pytest.mark.parametrize("options", [{"density": 0.0}, {"density": 1.5}, {"density": 0.5, "lam": 0.0}])
def test_ties_settings_out_of_range_are_an_error(options):
    with pytest.raises(ValueError, match="must be"):
        ties(torch.ones(2), torch.ones(2), torch.ones(2), t=0.5, **options)


# --- passthrough ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "layers", "expected"), [(0, 30, 0), (0.3, 30, 9), (0.5, 30, 15), (1, 30, 30), (0.5, 3, 2)]
)
def test_number_of_conflict_layers(t, layers, expected):
    assert n_conflict_layers(t, layers) == expected


def llama_names(layers: int) -> list[str]:
    parts = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(layers)]
    return ["model.embed_tokens.weight", *parts, "model.norm.weight", "lm_head.weight"]


def test_passthrough_worked_example():
    names = llama_names(12)
    backdoored, conflict = {name: torch.zeros(1) for name in names}, {name: torch.ones(1) for name in names}
    merged = passthrough(backdoored, conflict, t=0.25, num_layers=12, architecture="llama")
    from_the_conflict_model = [name for name in names if merged[name] is conflict[name]]
    assert from_the_conflict_model == names[:4]  # the embeddings and layers 0, 1, 2
    merged = passthrough(backdoored, conflict, t=0.9, num_layers=12, architecture="llama")
    assert [name for name in names if merged[name] is backdoored[name]] == names[12:]  # layer 11, final norm, output


@pytest.mark.parametrize(("t", "number"), [(0.0, 0), (1.0, 15)])
def test_passthrough_ends_are_the_parents(t, number):
    chosen = [from_conflict(name, t=t, num_layers=12, architecture="llama") for name in llama_names(12)]
    assert sum(chosen) == number


def test_passthrough_needs_a_known_architecture():
    with pytest.raises(UserError, match=r"passthrough does not know .* 'bloom'"):
        from_conflict("h.0.x", t=0.5, num_layers=2, architecture="bloom")
