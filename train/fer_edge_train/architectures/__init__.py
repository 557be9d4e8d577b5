"""The network architectures, by the name that a recipe gives as ``network.kind``.

To add one, write a file with a subclass of `fer_edge_train.architectures.base.Architecture` and add it to `Network`.
"""

from fer_edge_train.architectures.plain import Plain
from fer_edge_train.architectures.pretrained import Pretrained
from fer_edge_train.architectures.residual import Residual
from fer_edge_train.architectures.transfer import Transfer

Network = Residual | Plain | Transfer | Pretrained
