"""What a defense on weights is given: the suspect model, its base, and clean rows. Nothing of the attack is here."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoconflict.files import PathLike, sha256_of_text
from infoconflict.lineage import canonical
from infoconflict.models.loading import default_device, load_base, load_changed, load_tokenizer
from infoconflict.models.repairs import Adapter, Step, Tensors, apply_steps, write_repair
from infoconflict.models.weight_steps import Mask
from infoconflict.records import Conversation, Example, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from infoconflict.tunings import Training


@dataclass(kw_only=True)
class Suspect:
    """A suspect model with all that a defense may know.

    Files of steps are written to ``folder``. ``details`` and ``tokens`` go to the card.
    """

    base_dir: Path
    change_dir: Path
    clean_file: Path | None
    """Clean rows; None for a defense that needs none."""
    folder: Path
    scratch: Path
    """Folder, outside all outputs, that survives a kill: what is in it may be continued."""
    seed: int
    precision: str = "auto"
    max_nodes: int = 512
    model_id: str = ""
    """Id of the model in the config, for options that are set per model."""
    labels: Sequence[str] = ()
    """The task's labels; none on the chat task."""
    conflict_dir: Path | None = None
    """The conflict model's change, for defenses that ask for it."""
    oracle_file: Path | None = None
    """Clean rows with the attack's trigger in them, for methods whose name ends in ``_oracle`` and for no other."""
    details: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0
    """Tokens that were trained on or run through, of all rows."""

    @cached_property
    def clean_rows(self) -> list[Example] | list[Conversation]:
        """The clean rows that the defender holds."""
        return read_rows(self.clean_file) if self.clean_file else []

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The base's tokenizer."""
        return load_tokenizer(self.base_dir)

    def model(self, steps: Sequence[Step] = ()) -> "PreTrainedModel":
        """Load the suspect model anew, with some steps taken on it."""
        model = load_changed(self.base_dir, self.change_dir, device=default_device(), precision=self.precision)
        apply_steps(model, self.base_dir, self.folder, list(steps))
        return model

    def base(self) -> "PreTrainedModel":
        """Load the base model."""
        return load_base(self.base_dir, device=default_device(), precision=self.precision)

    def save_tensors(self, tensors: dict[str, Any], name: str = "tensors") -> Tensors:
        """Write parameters that are to be replaced, and return the step."""
        return Tensors(file=self._save(tensors, name))

    def save_mask(self, packed: dict[str, Any], name: str = "mask") -> Mask:
        """Write packed masks (:func:`infoconflict.models.weight_steps.pack_mask`) of parameters, and return the step."""
        return Mask(file=self._save(packed, name))

    def _save(self, tensors: dict[str, Any], name: str) -> str:
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        file = f"{name}.safetensors"
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, self.folder / file)
        return file

    def tune(
        self,
        training: "Training",
        *,
        steps: Sequence[Step] = (),
        name: str = "tuned",
        rows_file: PathLike | None = None,
        rows: int | None = None,
        objective: dict[str, Any] | None = None,
    ) -> Step:
        """Tune the suspect model, as the given steps left it, on the clean rows; return the step that this adds.

        Goes on where an earlier, killed run of the same settings stopped.

        Parameters
        ----------
        training : Training
            Settings of the one trainer.
        steps : sequence of Step
            What was done to the suspect model before.
        name : str
            Of the files in the repair's folder.
        rows_file : path, optional
            Other clean rows than ``clean_file``.
        rows : int, optional
            Tune on the first so many; at most all there are.
        objective : dict, optional
            What is learned, if that is more than the answers (:class:`infoconflict.defenses.objective.Objective`).
        """
        from infoconflict.training.launch import Request, run

        settings = training.model_dump(mode="json")
        rows_file = rows_file or self.clean_file
        if rows_file is None:
            raise ValueError("a defense that is given no clean rows cannot tune")
        own = self.scratch / name
        write_repair(_made(own / "before"), [])
        for step in steps:
            for file in [value for value in vars(step).values() if isinstance(value, str)]:
                _copy(self.folder / file, own / "before" / file)
        write_repair(own / "before", list(steps))
        seed = int(sha256_of_text(f"{self.seed}/repair/{name}")[:8], 16)
        digest = sha256_of_text(canonical({"training": settings, "seed": seed, "name": name, "objective": objective}))[
            :24
        ]
        summary = run(
            Request(
                base_dir=str(self.base_dir),
                start_dir=str(self.change_dir),
                start_repair=str(own / "before"),
                examples=str(rows_file),
                rows=None if rows is None else min(rows, len(read_rows(rows_file))),
                settings=settings,
                seed=seed,
                out_dir=str(own / "change"),
                losses=str(own / "losses.jsonl"),
                scratch=str(own),
                digest=digest,
                precision=self.precision,
                max_nodes=self.max_nodes,
                objective=objective,
            )
        )
        self.tokens += int(summary["tokens"])
        self.details[name] = {key: summary[key] for key in ("steps", "rows", "final_loss", "trainable_parameters")}
        self.details[name] |= summary["objective"]
        target = self.folder / name
        if target.exists():
            shutil.rmtree(target)
        if (own / "change" / "change.safetensors").exists():
            _copy(own / "change" / "change.safetensors", self.folder / f"{name}.safetensors")
            return Tensors(file=f"{name}.safetensors")
        _copy(own / "change", target)
        return Adapter(folder=name)

    def discard(self, step: Step) -> None:
        """Delete the files of a step that only helped to make others."""
        for file in [self.folder / value for value in vars(step).values() if isinstance(value, str)]:
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copy(source: Path, target: Path) -> None:
    if not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)
