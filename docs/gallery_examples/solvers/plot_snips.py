r"""
SNIPS
=====

"SNIPS: Solving Noisy Inverse Problems Stochastically" by Bahjat Kawar, Gregory Vaksman and Michael
Elad, 2021 (`arXiv 2105.14951 <https://arxiv.org/abs/2105.14951>`__).

SNIPS runs Langevin dynamics at falling noise levels, in the singular components of the operator.
Each component has a step size :math:`\alpha` of its own, and a drift :math:`d` from the network and
the measurement:

.. math:: \bar x \leftarrow \bar x + c\, \alpha\, \bar d + \sqrt{2 c\, \alpha}\, \bar z

Langevin dynamics must remove at each level what the level above has left; the paper takes more than
a thousand calls. By default the package anneals consistently instead: each step leaves exactly the
noise of the next level.

Use it for posterior samples by operators with a singular value decomposition. Each result on this
page takes 30 network calls; the default is 100.
"""

# %%
# Half of the pixels are lost, the others have noise of 0.05.

from figures import compare, photograph, psnr

import restore
from restore.tasks import Solving

truth = photograph()
operator = "mask:random:0.5"
measured = restore.degrade(truth, operator, noise=0.05)

# %%
# The paper's rule and the default, with equal calls.

rules = {
    "Langevin dynamics": {"consistent": 0, "step_size": 0, "steps_each": 2},
    "consistent annealing": {},
}
restorer = restore.Restorer()
task = Solving(operator, noise=0.05)
shown = {"measured": measured.picture}
for title, parameters in rules.items():
    result = restorer.run(
        task, measured.measurement, method="snips", steps=30, parameters=parameters
    )
    shown[title] = result.mean
    print(f"{title}: {result.report.steps} network calls, {psnr(result.mean, truth):.1f} dB")

# %%
# With so few calls, Langevin dynamics leave noise in the pixels that were not measured.

compare(shown, truth)
