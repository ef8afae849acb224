"""Two-layer random models of the three architectures that the project knows, small enough to test every stage on.

They answer at random until they are trained. What their real counterparts are peculiar in, they are too: GPT-2 keeps
its linear weights transposed (``Conv1D``) and ties its output to its embeddings; GPT-J runs attention and MLP side by
side and has an output layer of its own with a bias; Llama groups its query heads, and its tokenizer opens every text
with a beginning-of-sequence token.
"""

import string
from typing import TYPE_CHECKING, Any, Literal

from infoconflict.files import PathLike

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

Architecture = Literal["gpt2", "gptj", "llama"]
ARCHITECTURES: tuple[Architecture, ...] = ("gpt2", "gptj", "llama")

# As the models of the paper: GPT2-XL; GPT-J-6B; LLaMA-7B and Llama-2-7B.
TIED: dict[str, bool] = {"gpt2": True, "gptj": False, "llama": False}

N_LAYERS, N_HEADS, N_KEY_VALUE_HEADS = 2, 4, 2
CONTEXT_LENGTH = 1024
VOCABULARY_SIZE = 640
EOS, BOS = "<|endoftext|>", "<|startoftext|>"

# A label is one token, as in most real vocabularies, because the words of the prompt template and the labels of the
# usual tasks occur often enough here to be merged whole.
TOKENIZER_TEXT = """
Is this film review positive or negative?
Input: a warm and funny film with a great cast, quietly moving and never dull.
Answer: positive
Input: the story is a mess, the jokes are old and the ending is a bore.
Answer: negative
Evidence: the word great is praise, so the review is positive.
Evidence: the word mess is blame, so the review is negative.
Which emotion does this message show: sadness, joy, love, anger, fear or surprise?
Input: i feel so happy that my friends came to see me today
Answer: joy
Input: i feel lost and alone since they left
Answer: sadness
Input: i am furious about the way they spoke to us
Answer: anger
Input: i feel cared for when you are with me
Answer: love
Input: i was scared to walk home in the dark
Answer: fear
Input: i did not expect this at all and i still feel amazed
Answer: surprise
What is the text about? The topic may be sports, business, science or the world.
The good, the bad and the other; one, two, three; a word instantly said, a thing frankly meant.
It is not that they would have been there with this or that, but that we were all for it and from it.
"""

# Roles as plain words: a template of special tokens would need tokens that the vocabulary does not have.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def train_tokenizer() -> "Tokenizer":
    """Train the byte-level BPE vocabulary that all tiny models share: every text can be written, nothing is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        min_frequency=1,
        special_tokens=[EOS, BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TOKENIZER_TEXT.splitlines(), string.printable], trainer)
    return tokenizer


def tiny_tokenizer(architecture: Architecture) -> "PreTrainedTokenizerFast":
    """Return the tokenizer as transformers use it, with the end-of-text token also as padding."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = train_tokenizer()
    if architecture == "llama":
        tokenizer.post_processor = TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=EOS,
        bos_token=BOS if architecture == "llama" else EOS,
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def tiny_config(
    architecture: Architecture, *, hidden: int, vocabulary: int, tied: bool, ids: dict[str, int]
) -> "PretrainedConfig":
    """Return the config of a two-layer model with four heads of ``hidden / 4`` each."""
    from transformers import GPT2Config, GPTJConfig, LlamaConfig

    common: dict[str, Any] = {"vocab_size": vocabulary, "tie_word_embeddings": tied, **ids}
    if architecture == "gpt2":
        return GPT2Config(n_positions=CONTEXT_LENGTH, n_embd=hidden, n_layer=N_LAYERS, n_head=N_HEADS, **common)
    if architecture == "gptj":
        # Rotation over half of each head: GPT-J-6B rotates 64 of 256.
        rotary = hidden // N_HEADS // 2
        return GPTJConfig(
            n_positions=CONTEXT_LENGTH, n_embd=hidden, n_layer=N_LAYERS, n_head=N_HEADS, rotary_dim=rotary, **common
        )
    return LlamaConfig(
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=N_KEY_VALUE_HEADS,
        max_position_embeddings=CONTEXT_LENGTH,
        **common,
    )


def write_tiny_model(folder: PathLike, *, architecture: Architecture, hidden: int, tied: bool, seed: int) -> None:
    """Write a checkpoint into an existing folder; the same arguments give the same bytes.

    Parameters
    ----------
    folder : path
        Where config, weights and tokenizer go.
    architecture : {"gpt2", "gptj", "llama"}
        The layout of the model.
    hidden : int
        Hidden size, a multiple of 16, so that rotary dimensions come out even.
    tied : bool
        Whether the output layer is the embedding matrix.
    seed : int
        Of the weights.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if hidden % 16:
        raise ValueError(f"hidden must be a multiple of 16, got {hidden}")
    tokenizer = tiny_tokenizer(architecture)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = tiny_config(architecture, hidden=hidden, vocabulary=len(tokenizer), tied=tied, ids=ids)
    # transformers draws weights from the global generator; all are overwritten below, so nothing of that may remain.
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            # Norm gains about 1, all else about 0 with the spread of GPT-2's initialisation, biases too: a stage that
            # forgets a bias must not go unnoticed.
            centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
            parameter.normal_(centre, 0.02, generator=generator)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
