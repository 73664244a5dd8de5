"""Streets: small street scenes in the classes of CamVid, rendered from a seed, with everything known.

scene = render_scene(7, height=240, width=320)
scene.image, scene.mask, scene.depth, scene.boxes, scene.caption
"""

from encore.data.streets.classes import CLASSES, COLOURS, COUNTABLE
from encore.data.streets.dataset import Streets, streets_splits
from encore.data.streets.scene import Boxes, Clip, Scene, render_clip, render_scene

__all__ = [
    "CLASSES",
    "COLOURS",
    "COUNTABLE",
    "Boxes",
    "Clip",
    "Scene",
    "Streets",
    "render_clip",
    "render_scene",
    "streets_splits",
]
