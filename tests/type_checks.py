"""What checks annotations at run time: an int passes for a float, as it does for type checkers."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
