"""What packages of Debian, PyPI and npm hold: fetched, checked, read as streams."""
