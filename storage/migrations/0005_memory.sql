-- Memory of a run: what was planned before its first step, and the peak that was measured.
ALTER TABLE runs ADD COLUMN memory_plan_bytes INTEGER;
ALTER TABLE runs ADD COLUMN peak_memory_bytes INTEGER;
