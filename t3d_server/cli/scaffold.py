"""`t3d new`: a folder with an algorithm that works, as the place to write one's own."""

from __future__ import annotations

import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Annotated, Literal

import numpy as np
import typer

import t3d_server
from t3d_server.algorithm_utils.tags import load_tags
from t3d_server.cli.output import console
from t3d_server.datasets import conversion, formats
from t3d_server.errors import InvalidRequestError, Problem
from t3d_server.packages.manifest import NAME
from t3d_server.packages.wording import did_you_mean

AlgorithmType = Literal["Image2Image", "Image2Segmentation", "Image2Embedding", "Image2Alignment", "Generic"]

_TEMPLATES = Path(t3d_server.__file__).parent / "scaffold"
_SAMPLE_PIXELS = 192
_SAMPLE_SHIFTS = ((0, 0), (9, -14), (-6, -21), (3, -12))


@dataclass(frozen=True)
class _Example:
    """The values in the manifest of a type's example.

    Attributes:
        base: the class that its `Runner` inherits from.
        description: for users.
        tag: one of the type's tags; "" where it has none.
        parameter: an entry of `additional_parameters`.
        sample: name of the file with an input.
    """

    base: str
    description: str
    tag: str
    parameter: str
    sample: str = "sample.png"


_EXAMPLES: dict[AlgorithmType, _Example] = {
    "Image2Image": _Example(
        "Image2ImageRunner",
        "Stretches the contrast of each slice.",
        "image-enhancement",
        '{name = "saturated", description = "Percent of the pixels that may become black, and as many white.", '
        'config = {type = "float_range", default = 0.5, min = 0.0, max = 10.0, step = 0.1, adjustable = true}}',
    ),
    "Image2Segmentation": _Example(
        "Image2SegmentationRunner",
        "Separates foreground from background by Otsu's threshold.",
        "binary-segmentation",
        '{name = "foreground", description = "Whether objects are brighter or darker than the background.", '
        'config = {type = "string_enum", default = "bright", options = ["bright", "dark"], adjustable = true}}',
    ),
    "Image2Embedding": _Example(
        "Image2EmbeddingRunner",
        "Describes each image by a short vector, for search and comparison.",
        "image-embedding",
        '{name = "dimensions", description = "Length of the vector.", '
        'config = {type = "int_range", default = 32, min = 1, max = 256, step = 1, adjustable = true}}',
    ),
    "Image2Alignment": _Example(
        "Image2AlignmentRunner",
        "Finds by how many pixels each image is shifted against the one before.",
        "drift-correction",
        '{name = "method", description = "plain suits smooth and noisy images, phase those with much detail.", '
        'config = {type = "string_enum", default = "plain", options = ["plain", "phase"], adjustable = true}}',
        "sample.tif",
    ),
    "Generic": _Example(
        "BaseRunner",
        "Measures the intensities of each image: histogram, mean and standard deviation.",
        "",
        '{name = "bins", description = "Number of bins of the histogram.", '
        'config = {type = "int", default = 64, adjustable = true}}',
    ),
}


def _type_of(text: str) -> AlgorithmType:
    """The type of this name, whatever its case."""
    for name in _EXAMPLES:
        if name.casefold() == text.casefold():
            return name
    raise typer.BadParameter(f"{text!r} is none of {', '.join(_EXAMPLES)}{did_you_mean(text, _EXAMPLES)}")


def new(
    path: Annotated[Path, typer.Argument(help="Name of the algorithm; or path of the folder to make.", metavar="NAME")],
    algorithm_type: Annotated[
        AlgorithmType,
        typer.Option(
            "--type",
            help=f"What goes in and what comes out: {', '.join(_EXAMPLES)}.",
            metavar="TYPE",
            parser=_type_of,
        ),
    ] = "Image2Image",
) -> None:
    """Make a folder with an algorithm that works, as a starting point.

    It has code, a manifest, tests, and an input to try it on.

    Example: t3d new my_algorithm --type Image2Segmentation
    """
    _check(path)
    example = _EXAMPLES[algorithm_type]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".t3d-new-") as temporary:
        folder = Path(temporary) / path.name
        _write(folder, algorithm_type, example)
        folder.rename(path)  # all or nothing
    console.print(_next_steps(path, algorithm_type, example), markup=False)


def _check(path: Path) -> None:
    """Check that an algorithm can be made there.

    Raises:
        InvalidRequestError: lists all problems.
    """
    problems = []
    if not NAME.fullmatch(path.name):
        proposal = re.sub(r"[^A-Za-z0-9._-]+", "_", path.name).strip("_.")[:64]
        advice = f", such as {proposal!r}" if proposal else ""
        problems.append(Problem("name", f"{path.name!r} is not 1 to 64 of the characters A-Z a-z 0-9 . _ -{advice}"))
    if path.exists() or path.is_symlink():
        problems.append(Problem(str(path), "is there already; take another name, or move it away first"))
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir():
        problems.append(Problem(str(parent), "is a file; nothing can be made below it"))
    if problems:
        raise InvalidRequestError("No algorithm was made.", problems=problems)


def _write(folder: Path, algorithm_type: AlgorithmType, example: _Example) -> None:
    (folder / "tests").mkdir(parents=True)
    template = _TEMPLATES / algorithm_type
    (folder / "Runner.py").write_bytes((template / "Runner.py").read_bytes())
    (folder / "tests" / _test_name(folder.name)).write_bytes((template / "test_runner.py").read_bytes())
    values = {
        "name": folder.name,
        "type": algorithm_type,
        "base": example.base,
        "description": example.description,
        "parameter": example.parameter,
        "sample": example.sample,
        "tags": _tags(algorithm_type, example.tag),
    }
    for name in ("pyproject.toml", "README.md"):
        text = (_TEMPLATES / f"{name}.in").read_text("utf-8")
        (folder / name).write_text(Template(text).substitute(values), "utf-8")
    _draw_sample(folder / "tests" / example.sample)


def _test_name(name: str) -> str:
    """The file of tests, named after the algorithm: pytest refuses equal names if it runs several folders at once."""
    return f"test_{re.sub('[^A-Za-z0-9]', '_', name)}.py"


def _tags(algorithm_type: AlgorithmType, tag: str) -> str:
    """The lines of the manifest about tags."""
    known = [f"#   {name}: {line}" for name, line in load_tags()[algorithm_type].items()]
    if not known:
        return "# What it is for, so that clients find it; this type has no tags of its own.\ntags = []"
    return "\n".join(
        ["# What it is for, so that clients find it. Those of this type are:", *known, f'tags = ["{tag}"]']
    )


def _draw_sample(path: Path) -> None:
    """Bright blobs on an uneven background with noise, uint8: (Y, X) as PNG, a drifting (Z, Y, X) as TIFF."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:_SAMPLE_PIXELS, :_SAMPLE_PIXELS]
    background, blobs = 40 + 20 * x / _SAMPLE_PIXELS, np.zeros(x.shape)
    for _ in range(30):
        centre, radius = random.uniform(0.12, 0.88, 2) * _SAMPLE_PIXELS, random.uniform(2, 7)
        blobs += random.uniform(40, 90) * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * radius**2))
    slices = [np.roll(blobs, shift, (0, 1)) + background + random.normal(0, 3, x.shape) for shift in _SAMPLE_SHIFTS]
    stack = np.clip(slices, 0, 255).astype(np.uint8)
    with path.open("wb") as file:
        if path.suffix == ".tif":
            conversion.encode_array(stack, formats.TIFF, file, axes="ZYX")
        else:
            conversion.encode_array(stack[0], formats.PNG, file, axes="YX")


def _next_steps(path: Path, algorithm_type: AlgorithmType, example: _Example) -> str:
    steps = {
        f"cd {shlex.quote(str(path))}": "",
        "t3d check .": "shows all of its problems at once",
        f"t3d debug . tests/{example.sample} --watch": "runs it at each save, and draws the result",
        "pytest": "runs its tests, which are examples: replace them by your own (needs `pip install pytest`)",
        "t3d deploy .": "publishes it on the server, which `t3d up` starts",
    }
    width = max(map(len, steps))
    lines = [f"  {command:{width}}  # {why}" if why else f"  {command}" for command, why in steps.items()]
    return "\n".join([f"{path} is there ({algorithm_type}). Write your code in {path / 'Runner.py'}. Then:", *lines])
