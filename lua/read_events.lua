--[[
Read the log of transitions behind an entry, and what tells whether entries between were dropped meanwhile.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] after           id of an entry; "+" reads nothing
ARGV[3] limit           most entries to return
Returns {last, added, kept, is_kept, entries}: id of the last entry that there ever was; how many there ever were, ""
when the server does not tell (Redis before 7); how many are kept; 1 when the entry `after` is; the entries.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include keys
local given, after, limit = ARGV[1], ARGV[2], ARGV[3]
local failure = open(given, "read")
if failure then
  return failure
end
local name = key("events")
if redis.call("EXISTS", name) == 0 then
  return { "0-0", 0, 0, 0, {} }
end
local flat, info = redis.call("XINFO", "STREAM", name), {}
for i = 1, #flat, 2 do
  info[flat[i]] = flat[i + 1]
end
local entries, is_kept = {}, 0
if after ~= "+" then
  entries = redis.call("XRANGE", name, "(" .. after, "+", "COUNT", limit)
  is_kept = #redis.call("XRANGE", name, after, after)
end
return { info["last-generated-id"], info["entries-added"] or "", info["length"], is_kept, entries }
