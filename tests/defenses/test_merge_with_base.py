"""Merging with the base: a linear merge whose second model is the base."""

import pytest
import torch

from infoconflict.defenses.merge_with_base import MergeWithBase, repair
from infoconflict.merging.linear import linear
from tests.defenses.suspect_models import ARCHITECTURES, repaired, suspect_of, weights_of


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_the_linear_merge_with_the_base(architecture, tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs[architecture], None)
    base, before = weights_of(suspect.base()), weights_of(suspect.model())
    for t in (0.0, 0.3, 0.5, 1.0):
        after = repaired(suspect, repair(suspect, MergeWithBase(method="merge_with_base", t=t)))
        for name in before:
            expected = linear(before[name], base[name], t=t)
            torch.testing.assert_close(after[name], expected, atol=2e-7, rtol=0)
            if t in (0, 1):
                assert torch.equal(after[name], expected), name


def test_it_needs_no_rows_and_stores_a_number(tiny_dirs, tmp_path):
    options = MergeWithBase(method="merge_with_base")
    assert (options.clean_rows(), options.t) == ("none", 0.5)
    suspect = suspect_of(tmp_path, tiny_dirs["llama"], None)
    repaired(suspect, repair(suspect, options))
    assert [file.name for file in suspect.folder.iterdir()] == ["repair.json"]
