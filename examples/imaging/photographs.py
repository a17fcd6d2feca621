"""Real photographs to try the operations with: those that ship inside scikit-image's wheel, all free to use.

They are read as package resources; none of scikit-image's numerical code is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph on this machine.

    Attributes:
        name: what it is called here and in the answers.
        file: its file in ``skimage.data``.
        credit: whom to thank.
    """

    name: str
    file: str
    credit: str

    def read(self) -> bytes:
        """Read the file, as it ships.

        Raises:
            ModuleNotFoundError: scikit-image is not installed.
            FileNotFoundError: this version of it ships without the file.
        """
        return files("skimage.data").joinpath(self.file).read_bytes()


PHOTOGRAPHS = (
    Photograph("astronaut", "astronaut.png", "NASA, Eileen Collins"),
    Photograph("camera", "camera.png", "Lav Varshney, CC0"),
    Photograph("chelsea", "chelsea.png", "Stéfan van der Walt, CC0"),
    Photograph("coffee", "coffee.png", "Rachel Michetti, CC0"),
    Photograph("hubble", "hubble_deep_field.jpg", "NASA, Hubble eXtreme Deep Field"),
    Photograph("moon", "moon.png", "scikit-image"),
    Photograph("motorcycle", "motorcycle_left.png", "Middlebury stereo benchmark 2014"),
    Photograph("retina", "retina.jpg", "Mikael Häggström, CC0"),
    Photograph("rocket", "rocket.jpg", "SpaceX, DSCOVR on Falcon 9"),
)
"""Nine photographs, in colour and in grey, PNG and JPEG, 0.1 to 2 megapixels."""
