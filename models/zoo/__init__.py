"""The architectures: importing this package registers them all, without importing torch."""

from models.zoo import (
    alexnet,
    efficientnet,
    inception,
    lenet,
    mobilenet,
    resnet,
    squeezenet,
    vgg,
)
from models.zoo.registry import (
    IMAGENET,
    WIDTH_MULT,
    Architecture,
    Number,
    Option,
    ZooError,
    create,
    get,
    input_size_option,
    names,
    register,
)

__all__ = [
    "IMAGENET",
    "WIDTH_MULT",
    "Architecture",
    "Number",
    "Option",
    "ZooError",
    "alexnet",
    "create",
    "efficientnet",
    "get",
    "inception",
    "input_size_option",
    "lenet",
    "mobilenet",
    "names",
    "register",
    "resnet",
    "squeezenet",
    "vgg",
]
