"""One call from its file to its assessment, and the version of that recipe.

Who changes what the rows of a call say raises `RECIPE` by one. What is stored by an earlier recipe then
counts as old: it is analysed again by the next run whose window holds it (`store.recordings.done_among`), and
counted by `status` and the view `outdated_calls` until then. So does who makes recordings readable that were
refused: what an earlier recipe gave up is tried once more (`store.recordings.given_up_among`).
"""

RECIPE = 13
