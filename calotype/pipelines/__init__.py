"""One file for each kind of task; each is a generator that yields progress and, last, the result."""

from calotype.pipelines.restore import restore
from calotype.pipelines.upscale import upscale

PIPELINES = {"restore": restore, "upscale": upscale}
