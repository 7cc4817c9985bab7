"""FCS files byte by byte, after the FCS 3.1 standard (Spidlen et al., Cytometry A 2010)."""

import numpy as np
import pytest


@pytest.fixture
def make_fcs(tmp_path):
    """Write an FCS file: ``make_fcs(name, values, channels, markers=None, dtype="<f4", **keywords)``."""

    def make(name, values, channels, markers=None, dtype="<f4", **keywords):
        values = np.asarray(values, dtype=dtype)
        markers = markers or [""] * len(channels)
        text = {
            "$BEGINANALYSIS": 0,
            "$ENDANALYSIS": 0,
            "$BEGINSTEXT": 0,
            "$ENDSTEXT": 0,
            "$BYTEORD": "1,2,3,4" if dtype[0] == "<" else "4,3,2,1",
            "$DATATYPE": {"f4": "F", "f8": "D"}.get(dtype[1:], "I"),
            "$MODE": "L",
            "$NEXTDATA": 0,
            "$PAR": len(channels),
            "$TOT": len(values),
        }
        for i, (channel, marker) in enumerate(zip(channels, markers, strict=True), start=1):
            text |= {f"$P{i}N": channel, f"$P{i}B": 8 * int(dtype[2]), f"$P{i}E": "0,0", f"$P{i}R": 1024}
            text |= {f"$P{i}S": marker} if marker else {}
        text |= {f"${key}": value for key, value in keywords.items()}
        begin, end = 4096, 4096 + values.nbytes - 1
        text |= {"$BEGINDATA": begin, "$ENDDATA": end}
        segment = "|" + "".join(f"{key}|{value}|" for key, value in text.items())
        header = "FCS3.1    " + "".join(f"{n:>8}" for n in (58, 58 + len(segment) - 1, begin, end, 0, 0))
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((header + segment).encode().ljust(begin) + values.tobytes())
        return path

    return make
