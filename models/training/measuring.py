"""What a checkpoint answers on labelled images, read as every artifact reads them."""

from __future__ import annotations

from pathlib import Path

from models import images
from models.checkpoint import build, load_checkpoint
from models.data.labelled import LabelledSet

EVALUATION_BATCH = 32


def measure(checkpoint: Path, test_set: LabelledSet) -> float:
    """Top-1 accuracy of a checkpoint on labelled images, read as every artifact reads them.

    Args:
        test_set: its classes are in the order of the checkpoint's labels.
    """
    import torch

    from models.classifier import Classifier

    found = load_checkpoint(checkpoint)
    classifier = Classifier(build(found), found.contract).eval()
    paths = [item.path for item in test_set.items]
    targets = torch.tensor([item.class_index for item in test_set.items])
    answers = []
    with torch.inference_mode():
        rule = found.contract.preprocessing
        for pixels in images.load_batches(paths, rule, EVALUATION_BATCH):
            answers.append(classifier(torch.from_numpy(pixels)).argmax(dim=1))
    return float((torch.cat(answers) == targets).double().mean())
