"""Engine interface: the protocols of the Tinker SDK, which every training engine implements.

`protocol` names the methods that the library relies on, `tinker_types` is the one door to the package `tinker`,
`datum` builds and reads training data, `futures` and `errors` are shared by the engines that live in this process.
Nothing is imported here, so that looking at one part does not load `tinker`.
"""
