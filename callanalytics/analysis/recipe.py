"""The version of the analysis, so that stored results of an earlier one are known as such.

Who changes what the rows of a call say raises `RECIPE` by one. What is stored by an earlier recipe then
counts as old: it is analysed again by the next run whose window holds it (`store.recordings.done_among`), and
counted by `status` and the view `outdated_calls` until then.
"""

RECIPE = 8
