"""``stillhouse export``: a model as a folder that runs elsewhere, checked against the original, and pushed to a hub."""

import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.models.embed import check_is_classifier
from pipeline.cli.models.evaluations import evaluations_of
from pipeline.cli.models.find_model import FoundModel
from pipeline.cli.models.predict import described
from pipeline.cli.report import check_folder_of
from pipeline.errors import RequestError, first_line, refused
from stages.deployment.description import ModelDescription, is_onnx
from stages.deployment.graph import check_packages

if TYPE_CHECKING:
    from stages.deployment.checked_rows import ReferenceRows
    from stages.deployment.export import Exported

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def export_model(
    model: FoundModel, form: str, out: Path | None, rows: Path | None, text: Sequence[str], push: str | None
) -> int:
    """Export the model as ``write_export`` does. ``push``: the repository of a hub to which the folder is sent. Prints
    what was compared, and returns the exit code: 1 if a float32 export does not compute what the original does. Raises
    RequestError."""
    target = new_folder(model, form, out)
    if push is not None:
        _check_hub(push)
    found = write_export(model, form, target, rows, text)
    check = found.report["check"]
    assert isinstance(check, dict)
    from stages.deployment.checked_rows import describe_comparison

    print(describe_comparison(check))
    if not found.faithful:
        print(f"stillhouse: {unfaithful(model, form)}", file=sys.stderr)
        return 1
    print(f"{found.report['bytes']:,} bytes: {target}")
    return 0 if push is None else _push(target, push)


def new_folder(model: FoundModel, form: str, out: Path | None) -> Path:
    """The new folder of an export: ``out``, by default one in the current folder that is named after the model. Raises
    RequestError if it exists, or if the model cannot be exported as ``form``."""
    check_is_classifier(model, f"export --to {form}")
    target = out or Path(f"{plain_name(model.name)}-{form}")
    check_folder_of(target)
    if target.exists():
        raise RequestError(f"--out: {target} exists, and is not overwritten; give another path, or remove it")
    if is_onnx(model.directory):
        raise RequestError(f"MODEL: {model.name} is an ONNX model already; give the model that it was exported from")
    if form != "safetensors":
        with refused(f"--to: {form}"):
            check_packages()
    return target


def unfaithful(model: FoundModel, form: str) -> str:
    """The message on an export that differs from its original."""
    return f"{form}: the export does not compute what {model.name} does; it is not kept"


def write_export(model: FoundModel, form: str, target: Path, rows: Path | None, text: Sequence[str]) -> "Exported":
    """Export the model as ``form`` (onnx, onnx-int8, safetensors) into ``target``, a folder of ``new_folder``, unless
    the export is not faithful. It is compared with the original on the rows of the file ``rows``, by default on dev
    rows of its corpus; ``text`` names the columns. Raises RequestError."""
    description = model.description() if rows is None else described(model, rows, text)
    from stages.deployment.export import export

    compared = _compared_rows(model, description, rows)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.absolute().parent))
    try:
        with refused("MODEL"):
            found = export(
                model.directory,
                form,  # type: ignore[arg-type]
                work / "export",
                description,
                compared,
                plain_name(model.name),
                evaluations_of(model),
                model.identity,
            )
        if found.faithful:
            (work / "export").rename(target)
        return found
    finally:
        shutil.rmtree(work, ignore_errors=True)


def plain_name(name: str) -> str:
    """A model's name as that of a folder: distil/vanilla-kd/two/0@tiny becomes vanilla-kd-two-0-tiny."""
    return re.sub(r"[^\w.-]+", "-", name.removeprefix("distil/")).strip("-.") or "model"


def _compared_rows(model: FoundModel, description: ModelDescription, rows: Path | None) -> "ReferenceRows":
    """The rows on which the export is compared."""
    from stages.deployment.checked_rows import corpus_rows, file_rows, generated_rows

    with refused("--rows"):
        if rows is not None:
            return file_rows(rows, description)
    corpus = model.corpus()
    if corpus is None:
        return generated_rows(description)
    with refused("MODEL"):
        return corpus_rows(corpus, description)


def _check_hub(repository: str) -> None:
    """Raise RequestError unless the repository has a name of the hub's kind, and a token is known there."""
    import huggingface_hub

    if not REPOSITORY.fullmatch(repository):
        raise RequestError(f"--push: {repository} is no name of a repository; write OWNER/NAME")
    try:
        huggingface_hub.HfApi().whoami()
    except Exception as error:  # no token, an old one, or no network
        raise RequestError(
            f"--push: {repository}: the hub does not know who sends it ({first_line(error)}); run hf auth login"
        ) from error


def _push(folder: Path, repository: str) -> int:
    """Send the folder to the hub, print its address and return the exit code."""
    import huggingface_hub
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of its HTTP library

    from stages.deployment.export import exported_names

    with refused("--push"):
        names = exported_names(folder)
    hub = huggingface_hub.HfApi()
    try:
        hub.create_repo(repository, exist_ok=True)
        done = hub.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=names)
    except (HTTPError, OSError, ValueError) as error:
        reason = getattr(error, "server_message", None) or first_line(error)  # the hub's own words, where it answered
        print(f"stillhouse: --push: {repository}: {reason}; the export is kept in {folder}", file=sys.stderr)
        return 1
    print(f"pushed {len(names)} files: {done}")
    return 0
