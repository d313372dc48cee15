--@include records
--@include status
-- Attempts that do not count against `max_attempts`: released ones, and lost workers up to a limit.
local function add(record, field, by)
  local sum = tonumber(record[field] or "0") + by
  change(record, field, sum > 0 and tostring(sum) or nil)
end

-- An attempt gets another status for this cause: take back that it did not count, and see whether it counts now.
local function recount(rollout, attempt, cause)
  if attempt.uncounted then
    add(rollout, "uncounted", -1)
    add(rollout, "losses", attempt.uncounted == "lost" and -1 or 0)
    change(attempt, "uncounted", nil)
  end
  local lost = cause == CAUSE_OF_END[SILENT] and tonumber(rollout.losses or "0") < tonumber(rollout.max_losses or "0")
  if lost or cause == RELEASED_CAUSE then
    change(attempt, "uncounted", lost and "lost" or "released")
    add(rollout, "uncounted", 1)
    add(rollout, "losses", lost and 1 or 0)
  end
end
