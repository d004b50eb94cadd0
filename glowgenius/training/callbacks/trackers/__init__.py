"""Callbacks that hand a run's rows to the library of an experiment tracker."""
