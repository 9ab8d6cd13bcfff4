"""The log of a training run: one JSON object a line, readable while the run goes on.

`RunLog` writes it, `read_run_log` reads it; whoever writes one by other means needs a `start` line
and `step` lines, with the fields that are not in brackets. Lines by their `event`; `step` counts
the steps done, `seconds` are of training, from its beginning and without evaluations; figures may
be null where they are not finite, and any others may stand beside those named here.

* `start`: `name`, [`data`], [`ranks`], [`layers`] (name -> shape), [`settings`], [`date`] (ISO
  8601), [`versions`], [`hardware`]
* `step`: `step`, `loss`, `seconds`
* `stats`: `step`, `seconds`, `stats` (of `Compression.stats()`, totals)
* `evaluation`: `step`, `seconds`, figures such as `accuracy` (percent) and `loss`, [`bytes_sent`]
  (by one rank so far)
* `plan`: `step` (of effect), `version`, `levels` (layer -> spelling), `layer_bytes` (layer ->
  payload bytes), `bytes`, [`error`], [`budget`], [`lower_bound`], [`estimates`]
* `end`: `steps`, `seconds`, [`stats`], [`bytes_sent`], [`loopback_bytes`] (per rank), [`compute_s`]
  (a step without communication), figures such as `accuracy` and `loss`
"""

from lgreco.run_log.reading import Line, Run, plans_in_effect, read_run_log
from lgreco.run_log.writing import RunLog

__all__ = ["Line", "Run", "RunLog", "plans_in_effect", "read_run_log"]
