"""Local steps and a compressed outer step, as in DiLoCo, on handwritten digits. On two ranks:

torchrun --standalone --nproc-per-node 2 examples/outer_step.py

Each rank trains alone for LOCAL_STEPS; then the ranks average how far they went, compressed, and
take an outer Nesterov step in that direction (docs/local_steps.md).
"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn

import lgreco

OUTER_STEPS, LOCAL_STEPS, BATCH = 15, 20, 32

dist.init_process_group("gloo")
torch.set_num_threads(1)
rank, ranks = dist.get_rank(), dist.get_world_size()
images, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
images = images.float() / 16
test, train = slice(0, 400), slice(400 + rank, None, ranks)  # each rank has its own share

torch.manual_seed(1 + rank)  # the ranks draw other batches; they start with rank 0's model
model = nn.Sequential(
    nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
)
inner = torch.optim.AdamW(model.parameters(), lr=1e-3)
outer = lgreco.OuterStep(model, lgreco.Quantize(bits=4), every=LOCAL_STEPS)

for _ in range(OUTER_STEPS * LOCAL_STEPS):
    chosen = torch.randint(len(images[train]), (BATCH,))
    loss = nn.functional.cross_entropy(model(images[train][chosen]), labels[train][chosen])
    inner.zero_grad()
    loss.backward()
    inner.step()
    outer.step()

accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean().item()
flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
everybody = [torch.empty_like(flat) for _ in range(ranks)]
dist.all_gather(everybody, flat)
assert all(torch.equal(other, flat) for other in everybody), "the ranks differ"
stats = outer.stats()
if rank == 0:
    print(f"accuracy {100 * accuracy:.1f} %, all {ranks} ranks have the same bits")
    print(
        f"{stats['bytes_sent']:,} bytes sent by each rank, "
        f"{stats['dense_bytes']:,} without compression: {stats['ratio']:.1f}x fewer, "
        f"and one exchange in {LOCAL_STEPS} steps"
    )
dist.destroy_process_group()
