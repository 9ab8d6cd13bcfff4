"""Compressed gradients in Lightning: `Trainer(strategy="ddp_lgreco")`, and as much in Fabric.

Importing this module adds "ddp_lgreco" to the strategies that both know by name. It needs the
package `lightning`; `pytorch_lightning` alone has classes of its own.
"""

from lgreco.lightning.fabric import LGreCoFabricStrategy
from lgreco.lightning.monitor import LGreCoMonitor
from lgreco.lightning.trainer import LGreCoStrategy

__all__ = ["LGreCoFabricStrategy", "LGreCoMonitor", "LGreCoStrategy"]
