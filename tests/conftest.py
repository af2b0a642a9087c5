"""Small cases are shared out among threads, too, as if these were awake and near, whatever the machine does."""

from fastrnn import _core

_core.assume_meeting(80)
