"""The built-in data set: drawn snakes of invented species.

It exists so that the whole way from training to a phone can be walked without
downloading anything. What tells the species apart is the pattern of the skin;
colour, pose, head, ground and light vary alike in all of them. A model trained
on it must never judge a real snake.
"""

from models.data.synthetic.dataset import DRAWING_VERSION, draw_contact_sheet, draw_dataset
from models.data.synthetic.scene import draw_snake
from models.data.synthetic.species import LABELS, SPECIES, Species
from models.data.synthetic.variants import draw_imbalanced, draw_multi_label

__all__ = [
    "DRAWING_VERSION",
    "LABELS",
    "SPECIES",
    "Species",
    "draw_contact_sheet",
    "draw_dataset",
    "draw_imbalanced",
    "draw_multi_label",
    "draw_snake",
]
