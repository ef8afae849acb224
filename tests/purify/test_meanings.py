import pytest

from infoconflict.purify.meanings import meanings_apart, others_apart, rotations

LLAMA = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 99}
LINEAR = {"rope_type": "linear", "factor": 4.0}


@pytest.mark.parametrize(
    ("own", "base"),
    [
        ({"head_dim": 16, "num_key_value_heads": 4}, {}),
        ({"attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False}, {"mlp_bias": None}),
        ({"hidden_act": "silu", "rms_norm_eps": 1e-6}, {}),
        ({"rope_theta": 10000.0}, {}),
        (
            {"rope_parameters": {"rope_theta": 10000, "rope_type": "default"}},
            {"rope_theta": 10000.0, "rope_scaling": None},
        ),
        ({"rope_scaling": LINEAR}, {"rope_scaling": {"type": "linear", "factor": 4}}),
        ({"rope_scaling": LINEAR, "rope_theta": 5e5}, {"rope_parameters": LINEAR | {"rope_theta": 5e5}}),
        ({"sliding_window": 4096, "use_sliding_window": False}, {"sliding_window": None}),
    ],
)
def test_the_same_in_other_words(own, base):
    assert not list(meanings_apart(LLAMA | own, LLAMA | base))
    assert not list(meanings_apart(LLAMA | base, LLAMA | own))


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("rope_scaling", {"rope_scaling": LINEAR}),
        ("rope_theta", {"rope_theta": 500000.0}),
        ("rope_parameters", {"rope_parameters": {"rope_theta": 5.0, "rope_type": "default"}}),
        ("rope_parameters", {"rope_parameters": {"rope_theta": 10000.0}, "rope_theta": 5.0}),
        ("rope_scaling", {"rope_scaling": "linear"}),
        ("partial_rotary_factor", {"partial_rotary_factor": 0.5}),
        ("num_key_value_heads", {"num_key_value_heads": 2}),
        ("head_dim", {"head_dim": 8}),
        ("sliding_window", {"sliding_window": 16}),
        ("attention_bias", {"attention_bias": True}),
        ("tie_word_embeddings", {"tie_word_embeddings": True}),
        ("final_logit_softcapping", {"final_logit_softcapping": 30.0}),
    ],
)
def test_a_key_that_one_of_them_lacks(key, changes):
    for one, other in ((LLAMA | changes, LLAMA), (LLAMA, LLAMA | changes)):
        assert [found[0] for found in meanings_apart(one, other)] == [key]


def test_keys_that_contradict_each_other_have_two_readings():
    assert len(rotations({"rope_parameters": {"rope_theta": 10000.0}, "rope_theta": 5.0})) == 2
    assert len(rotations({"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default"}})) == 2
    assert len(rotations({"rope_scaling": LINEAR, "rope_theta": 5.0})) == 1


def test_other_keys_are_told_but_for_the_silent_ones():
    apart = others_apart(
        LLAMA | {"eos_token_id": 2, "dtype": "float16", "rope_theta": 1.0}, LLAMA | {"eos_token_id": 3, "more": [1]}
    )
    assert apart == [("eos_token_id", 2, 3), ("more", None, [1])]
