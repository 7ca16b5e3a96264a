from . import decoding as decoding
from . import losses as losses
from .live import Piece as Piece
from .pair import Pair as Pair
from .pair import load_pair as load_pair
from .reader import TextError as TextError
from .reader import Written as Written
from .run import train_and_evaluate as train_and_evaluate

__version__: str
