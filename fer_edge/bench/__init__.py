"""How long a face and a frame take on this machine, in a form that can be defended and compared."""
