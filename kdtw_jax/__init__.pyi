from . import decoding as decoding
from . import losses as losses
from .pair import Pair as Pair
from .pair import load_pair as load_pair
from .run import train_and_evaluate as train_and_evaluate

__version__: str
