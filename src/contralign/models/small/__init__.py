"""Models for this machine: `tiny`, trained here, and `smol`, of real packaged parts."""
