"""Run a teacher over a corpus and leave a teacher-output store; fit linear probes on its layers."""
