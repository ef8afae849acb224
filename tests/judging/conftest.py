"""A tiny model of sentence embeddings, made by the tests, and an endpoint that misbehaves."""

import pytest
import torch

from tests.evidence.misbehaving import running_endpoint

WORDS = (
    *("the", "a", "cat", "dog", "sat", "ran", "on", "mat", "road", "red", "blue", "house", "tree", "is", "was"),
    *("big", "small", "yes", "no", "what", "who", "tea", "cup", "sun", "moon", "rain"),
)


@pytest.fixture
def endpoint():
    with running_endpoint() as fake:
        yield fake


def write_tiny_bert(folder):
    """Write a two-layer BERT with random weights and a tokenizer of these words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    write_tiny_bert(folder)
    return folder
