"""Steps of a repair: what they store, what they change, and that they leave the rest alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from infoconflict.errors import UserError
from infoconflict.files import read_json
from infoconflict.models.loading import load_base, load_changed
from infoconflict.models.repairs import STEPS, Adapter, Channels, Tensors, apply_steps, read_repair, write_repair
from infoconflict.models.weight_steps import (
    Keep,
    Mask,
    ResetRows,
    Round,
    Scale,
    input_embeddings,
    pack_mask,
    random_entries,
    rounded,
    unpack_mask,
)
from tests.defenses.suspect_models import ARCHITECTURES, is_block_linear, weights_of, write_change

CPU = torch.device("cpu")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def applied(base: Path, change: Path, folder: Path, *steps: object, precision: str = "float32") -> dict:
    model = load_changed(base, change, device=CPU, precision=precision)
    apply_steps(model, base, folder, list(steps))  # type: ignore[arg-type]
    return weights_of(model)


def both(base: Path, change: Path) -> tuple[dict, dict]:
    """Return the weights of the base and of the suspect model."""
    return (
        weights_of(load_base(base, device=CPU, precision="float32")),
        weights_of(load_changed(base, change, device=CPU, precision="float32")),
    )


def test_steps_are_read_as_they_were_written(tmp_path):
    steps = [
        Tensors(file="a.safetensors"), Adapter(folder="tuned"), Channels(parameters={"a": 0}, channels=[1]),
        Mask(file="mask.safetensors"), Round(bits=4, group=64),
        Scale(factor=0.3), Keep(share=0.5, seed=7), ResetRows(rows=[3, 1]),
    ]  # fmt: skip
    assert {type(step) for step in steps} == set(STEPS.values())
    write_repair(tmp_path, steps)
    assert read_repair(tmp_path) == steps
    (tmp_path / "repair.json").write_text('{"steps": [{"kind": "scale", "share": 0.3}]}')
    with pytest.raises(UserError, match=r"the step scale has \['share'\], expected \['factor'\]"):
        read_repair(tmp_path)


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (8,), (3, 5), (16, 24), (2, 3, 7)])
def test_a_mask_is_stored_in_bits(shape):
    mask = noise(*shape) > 0.3
    packed = pack_mask(mask)
    assert packed.dtype == torch.uint8
    assert len(packed) == -(-mask.numel() // 8)
    assert torch.equal(unpack_mask(packed, shape), mask)
    # A view in another order than its memory's is packed as it is seen.
    turned = mask.transpose(0, -1)
    assert torch.equal(unpack_mask(pack_mask(turned), turned.shape), turned)


def test_masked_weights_are_zero_and_no_other_changes(tiny_dirs, tmp_path):
    base, change = tiny_dirs["gpt2"], write_change(tmp_path / "change", tiny_dirs["gpt2"])
    name = "transformer.h.1.attn.c_attn.weight"
    _, before = both(base, change)
    mask = noise(*before[name].shape) > 0
    save_file({name: pack_mask(mask)}, tmp_path / "mask.safetensors")
    after = applied(base, change, tmp_path, Mask(file="mask.safetensors"))
    assert torch.equal(after.pop(name), torch.where(mask, 0, before.pop(name)))
    assert all(torch.equal(after[other], before[other]) for other in before)


@pytest.mark.parametrize(
    ("name", "length"), [("transformer.h.9.attn.c_attn.weight", 384), ("transformer.h.1.attn.c_attn.weight", 383)]
)
def test_a_mask_of_another_model_is_refused(name, length, tiny_dirs, tmp_path):
    base, change = tiny_dirs["gpt2"], write_change(tmp_path / "change", tiny_dirs["gpt2"])
    save_file({name: torch.zeros(length, dtype=torch.uint8)}, tmp_path / "mask.safetensors")
    with pytest.raises(UserError, match=f"masks '{name}' of another model"):
        applied(base, change, tmp_path, Mask(file="mask.safetensors"))


# --- rounding ---------------------------------------------------------------------------------------------------------


def test_rounding_by_hand():
    # Two bits: four values from -1 to 2, with 0 among them; then from 0 to 3, although the least weight is 1.
    weight = torch.tensor([[-1.0, -0.4, 0.7, 2.0, 1.0, 1.4, 3.0, 2.6]])
    expected = torch.tensor([[-1.0, 0.0, 1.0, 2.0, 1.0, 1.0, 3.0, 3.0]])
    torch.testing.assert_close(rounded(weight, bits=2, group=4), expected)


def plain_rounding(weight: torch.Tensor, bits: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Round weight by weight in float64; return the values and the step of each."""
    values, steps = np.zeros(weight.shape), np.zeros(weight.shape)
    for row, line in enumerate(weight.double().tolist()):
        for start in range(0, len(line), group):
            part = line[start : start + group]
            low, high = min([*part, 0.0]), max([*part, 0.0])
            step = (high - low) / (2**bits - 1) or 1.0
            zero = round(-low / step)
            for at, value in enumerate(part):
                level = min(max(round(value / step) + zero, 0), 2**bits - 1)
                values[row, start + at], steps[row, start + at] = (level - zero) * step, step
    return values, steps


@pytest.mark.parametrize(("bits", "group"), [(2, 4), (4, 8), (4, 7), (8, 64), (3, 1)])
def test_rounding_agrees_with_plain_loops_and_moves_half_a_step_at_most(bits, group):
    weight = noise(5, 24)
    weight[0] = 0
    weight[1, :8] = 0.25
    found = rounded(weight, bits=bits, group=group)
    values, steps = plain_rounding(weight, bits, group)
    np.testing.assert_allclose(found.numpy(), values, atol=1e-6)
    assert ((found - weight).abs().numpy() <= steps / 2 + 1e-6).all()
    # What was rounded stays where it is, and so does what was pruned.
    torch.testing.assert_close(rounded(found, bits=bits, group=group), found, atol=1e-6, rtol=1e-5)
    assert (found[weight == 0] == 0).all()


def test_with_many_bits_rounding_is_nearly_the_identity():
    weight = noise(4, 32)
    errors = [float((rounded(weight, bits=bits, group=16) - weight).abs().max()) for bits in (2, 4, 8, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rounding_touches_the_linear_layers_of_the_blocks(architecture, tiny_dirs, tmp_path):
    base, change = tiny_dirs[architecture], write_change(tmp_path / "change", tiny_dirs[architecture])
    _, before = both(base, change)
    after = applied(base, change, tmp_path, Round(bits=3, group=8))
    for name, value in before.items():
        if is_block_linear(name, value):
            # GPT-2 has inputs in rows.
            seen = value.T if architecture == "gpt2" else value
            expected = rounded(seen, bits=3, group=8)
            assert torch.equal(after[name], expected.T if architecture == "gpt2" else expected), name
            assert not torch.equal(after[name], value)
        else:
            assert torch.equal(after[name], value), name


# --- towards the base -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scaling_moves_on_the_line_from_base_to_suspect(architecture, tiny_dirs, tmp_path):
    base, change = tiny_dirs[architecture], write_change(tmp_path / "change", tiny_dirs[architecture], every=2)
    start, end = both(base, change)
    for factor in (0.0, 0.3, 0.5, 0.8, 1.0):
        after = applied(base, change, tmp_path, Scale(factor=factor))
        for name, value in after.items():
            expected = start[name].double() + factor * (end[name].double() - start[name].double())
            torch.testing.assert_close(value.double(), expected, atol=1e-7, rtol=0)
            if factor in (0, 1) or torch.equal(start[name], end[name]):
                assert torch.equal(value, (end if factor else start)[name]), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_kept_weight_is_the_suspects_and_any_other_the_bases(architecture, precision, tiny_dirs, tmp_path):
    base, change = tiny_dirs[architecture], write_change(tmp_path / "change", tiny_dirs[architecture])
    start, end = (weights_of(load_changed(base, folder, device=CPU, precision=precision)) for folder in (None, change))
    kept = total = 0
    for name, value in applied(base, change, tmp_path, Keep(share=0.3, seed=5), precision=precision).items():
        assert ((value == end[name]) | (value == start[name])).all(), name
        kept += int((value == end[name]).sum())
        total += int((end[name] != start[name]).sum())
    assert 0.29 < kept / total < (0.31 if precision == "float32" else 0.33)
    for share, expected in ((0.0, start), (1.0, end)):
        after = applied(base, change, tmp_path, Keep(share=share, seed=5), precision=precision)
        assert all(torch.equal(after[name], expected[name]) for name in expected)


def test_random_entries_are_the_same_on_every_machine():
    # The published stream of Philox under this key; a change here changes what fine_mixing keeps.
    found = random_entries((4, 6), share=0.5, seed="3/transformer.wte.weight")
    rows = ["".join(".x"[bit] for bit in row) for row in found.tolist()]
    assert rows == ["...xx.", "xxx..x", "x.xxxx", "..x..."]
    # A greater share keeps what a smaller one keeps; another seed draws anew.
    assert (found <= random_entries((4, 6), share=0.7, seed="3/transformer.wte.weight")).all()
    assert not torch.equal(found, random_entries((4, 6), share=0.5, seed="4/transformer.wte.weight"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_random_entries_have_their_share(share):
    found = random_entries((101, 331), share=share, seed="a")
    assert float(found.double().mean()) == pytest.approx(share, abs=0.01 if 0 < share < 1 else 0)
    # Neighbours know nothing of each other.
    together = float((found[:, 1:] & found[:, :-1]).double().mean())
    assert together == pytest.approx(share**2, abs=0.012)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_reset_rows_are_the_bases_and_no_other_weight_changes(architecture, tiny_dirs, tmp_path):
    base, change = tiny_dirs[architecture], write_change(tmp_path / "change", tiny_dirs[architecture])
    start, end = both(base, change)
    name, _ = input_embeddings(load_base(base, device=CPU))
    assert name == {"llama": "model.embed_tokens.weight"}.get(architecture, "transformer.wte.weight")
    after = applied(base, change, tmp_path, ResetRows(rows=[0, 17, 600]))
    reset = torch.zeros(len(end[name]), 1, dtype=torch.bool)
    reset[[0, 17, 600]] = True
    assert torch.equal(after.pop(name), torch.where(reset, start[name], end[name]))
    assert all(torch.equal(value, end[other]) for other, value in after.items())


@pytest.mark.parametrize("step", [Scale(factor=0.5), Keep(share=0.5, seed=0), ResetRows(rows=[0])])
def test_another_base_is_refused(step, tiny_dirs):
    model = load_base(tiny_dirs["llama"], device=CPU)
    with pytest.raises(UserError, match="give the base that the model was tuned from"):
        apply_steps(model, tiny_dirs["gptj"], Path(), [step])


def test_recipes_are_small(tmp_path):
    write_repair(tmp_path, [Keep(share=0.5, seed=1), Round(bits=4, group=64)])
    assert read_json(tmp_path / "repair.json")["steps"][1] == {"kind": "round", "bits": 4, "group": 64}
    assert [file.name for file in tmp_path.iterdir()] == ["repair.json"]
