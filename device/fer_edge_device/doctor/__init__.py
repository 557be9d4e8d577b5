"""The checks of ``fer-edge doctor``: whether this machine has everything that the service needs."""
