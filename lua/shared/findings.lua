--@include keys
--@include repeats
-- What an audit finds. A finding and its mending are one step: nothing comes between the look and the write.
local findings, mended, is_repairing = {}, 0, false

-- A call that is sent again finds nothing to mend any more; it answers what it has mended before.
local function begin_findings(repair, token)
  is_repairing = repair == "1"
  for line in string.gmatch(is_repairing and answered(token) or "", "([^\n]*)\n") do
    findings[#findings + 1] = line
  end
end

-- Note what is wrong.
--   mend  what puts it right, nil when that cannot be told from what is left; called when the audit is to repair
local function find(rule, id, text, mend)
  local mends = is_repairing and mend ~= nil
  if mends then
    mend()
    mended = mended + 1
  end
  for _, part in ipairs({ rule, id, text, mends and "1" or "" }) do
    findings[#findings + 1] = (string.gsub(part, "%c", "?"))
  end
end

-- All findings, four texts each: rule, id, what is wrong, and "1" if it was mended.
local function end_findings(token)
  if mended > 0 then
    remember(token, table.concat(findings, "\n") .. "\n")
  end
  return findings
end

-- A member of an index and what is expected there: a score, or nil for no entry.
local function check_member(rule, index, id, expected)
  local at = redis.call("ZSCORE", key(index), id)
  if at and not expected then
    find(rule, id, "lies in the index " .. index, function() redis.call("ZREM", key(index), id) end)
  elseif expected and tonumber(at or "") ~= tonumber(expected) then
    find(rule, id, (at and "lies in the wrong place of the index " or "is missing from the index ") .. index,
      function() redis.call("ZADD", key(index), expected, id) end)
  end
end
