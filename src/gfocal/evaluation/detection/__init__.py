"""How what is measured comes to its detections: by torch, or by the runtime of an exported file."""
