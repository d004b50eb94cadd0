"""Small experiments on what supervised learning and LoRA do, each recorded as JSON beside its script.

python -m examples.experiments.run --list
python -m examples.experiments.run rank_early     # one of them; cells that are recorded are not run again
python -m examples.experiments.run                # all of them
python -m examples.experiments.figures            # the pictures of docs/understanding.md, from the recorded results
"""
