"""Training: losses, metrics, optimizers, schedules, callbacks, and the loops. Users say fastrnn.losses etc."""
