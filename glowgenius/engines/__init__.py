"""The seam between the library and whatever trains: the interface of the Tinker SDK, and nothing on top of it.

`protocol` names the methods that the library relies on, `tinker_types` is the one door to the package `tinker`,
`datum` builds and reads training data, `futures` and `errors` are shared by the engines that live in this process.
Nothing is imported here, so that looking at one part does not load `tinker`.
"""
