# %% [markdown]
# # t3d from a notebook
#
# Open it in an editor that knows `# %%` cells (VS Code, PyCharm, Spyder, or Jupyter by jupytext), or run it as it is:
#
#     t3d deploy algorithms/denoise
#     python examples/client_notebook.py

# %%
from pathlib import Path

import numpy as np
from skimage import data

from t3d_server import AlgorithmError, Client, InvalidArgsError
from t3d_server.picture import draw_rows

noise = np.random.default_rng(0)

# %% [markdown]
# The local server, started by `t3d up` on this machine; `T3D_URL` and `T3D_TOKEN` name another one.

# %%
t3d = Client()
for info in t3d.algorithms():
    manifest = info.version.manifest
    print(f"{info.name} {info.current} ({manifest.algorithm_type}): {manifest.description}")

# %% [markdown]
# What can be set: each parameter with its type, default and bounds. `t3d.args_schema("denoise")` tells the same as JSON
# Schema.

# %%
for parameter in t3d.algorithm("denoise").version.manifest.additional_parameters:
    print(f"{parameter.name}: {parameter.type}, {parameter.default!r} by default. {parameter.description}")

# %% [markdown]
# ## One image
#
# `run` uploads, runs, waits and fetches.

# %%
clean = data.camera()[128:384, 128:384]
noisy = np.clip(clean + noise.normal(0, 25, clean.shape), 0, 255).astype(np.uint8)
denoised = t3d.run("denoise", noisy)["image"]
for name, picture in (("noisy", noisy), ("denoised", denoised)):
    error = np.sqrt(np.mean((picture.astype(float) - clean) ** 2))
    print(f"{name}: {picture.dtype} {picture.shape}, root mean square error {error:.1f}")

# %% [markdown]
# ## A stack, step by step
#
# Upload once, with axes and spacing, and run as often as you like: a dataset does not change. The result has the
# spacing of what it was made of.

# %%
stack = np.stack([np.roll(noisy, 4 * z, axis=1) for z in range(6)])
dataset = t3d.upload(stack, axes="ZYX", spacing=(2.0, 0.65, 0.65))
print(f"dataset {dataset.id}: {dataset.axes}, spacing {dataset.spacing} {dataset.spacing_unit}")

run = t3d.submit("denoise", dataset, args={"method": "tv_chambolle", "strength": 1.2})
for event in run.events():  # ends with the run
    print(f"{event.status} {event.progress:.0%} {event.message}")
[result] = run.result()
print(f"result: {result['image'].shape}, axes {result['axes']}, spacing {result['spacing']}")

# %% [markdown]
# Several datasets at once give as many results, in order. Of a large dataset, one array can be fetched alone.

# %%
several = t3d.submit("denoise", [noisy, noisy[::-1].copy()])
print(f"{len(several.result())} results")
print(t3d.fetch_array(several.output_dataset_ids()[0], "image").shape)

# %% [markdown]
# ## When something is wrong
#
# Requests that cannot be right are refused at once, with every fault. Runs that fail tell the message and the traceback
# of the algorithm.

# %%
try:
    t3d.run("denoise", noisy, args={"strength": 9, "metod": "gaussian"})
except InvalidArgsError as refused:
    for problem in refused.problems:
        print(f"{problem.key}: {problem.message}")

try:
    t3d.run("denoise", noisy, args={"sigma": -1})
except AlgorithmError as failed:
    print(failed.message)

# %% [markdown]
# ## Afterwards
#
# Runs stay listed with their log; datasets stay until they are deleted.

# %%
for past in t3d.runs(algorithm="denoise", limit=5):
    print(f"{past.created_at:%H:%M:%S} {past.status} {past.args['method']}")
for line in run.log():
    print(line.level, line.message)

draw_rows(
    [
        ([("one image", {"image": noisy})], [("result", {"image": denoised})]),
        ([("a stack", {"image": stack})], [("result", result)]),
    ],
    Path("denoise.png"),
)
print("inputs beside results: denoise.png")

t3d.delete(dataset)
t3d.close()
