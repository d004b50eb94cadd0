"""From rendered examples to batches: the shift by one, the length limit, and the order of rows."""

from glowgenius.batching.order import batches, epoch_order
from glowgenius.batching.overflow import Fitted, Overflow, fit, fit_all
from glowgenius.batching.shift import ShiftedExample, shift

__all__ = ["Fitted", "Overflow", "ShiftedExample", "batches", "epoch_order", "fit", "fit_all", "shift"]
