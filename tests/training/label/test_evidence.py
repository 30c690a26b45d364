"""What speaks for a pixel being robot."""

import numpy as np

from training.label.evidence import steady


def test_neighbouring_frames_speak_for_pixels_that_stay_as_they_are_alone() -> None:
    frames = np.full((3, 1, 2, 3), 100, np.uint8)
    frames[1, 0, 1] = 220  # changes, and back
    alone = np.array([[[3.0, 3.0]], [[-1.0, -1.0]], [[3.0, 3.0]]])
    together = steady(frames, alone)
    np.testing.assert_allclose(together[:, 0, 0], 5 / 3)
    np.testing.assert_allclose(together[:, 0, 1], [3, -1, 3], atol=1e-3)
    assert np.array_equal(steady(frames[:1], alone[:1]), alone[:1])
