-- What wrk sends for scripts/bench_run.py: wrk ... -s bench.lua URL -- WHAT RUN PEOPLE KEY
-- RUN is a word that no other run of wrk uses; PEOPLE a file of lines "user openid token"; KEY an API key.
-- Requests are made here for every contender, so the load generator's own work is the same for those compared.
local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

local GETS = { ["hello-get"] = true, credit = true, page = true }

function init(args)
    local what, run, people, key = args[1], args[2], args[3], args[4]
    local users, openids, gets, sent = {}, {}, {}, 0
    local authorized = { Host = wrk.headers["Host"], Authorization = "Bearer " .. key }
    for line in io.lines(people) do
        local user, openid, token = line:match("(%S+) (%S+) (%S+)")
        users[#users + 1], openids[#openids + 1] = user, openid
        gets[#gets + 1] = wrk.format("GET", what == "credit" and "/credit?token=" .. token or "/bench/hello")
    end
    -- Each thread starts elsewhere, so that two do not walk through the same people side by side.
    local place = number * math.floor(#users / 2)
    local headers = { Host = wrk.headers["Host"], Authorization = "Bearer " .. key }
    headers["Content-Type"] = "application/json"
    math.randomseed(number + 1)

    local function post(unique)
        headers["Idempotency-Key"] = unique
        if what == "login" then
            return "/login", '{"code":"dev-' .. users[place] .. "-" .. unique .. '"}'
        end
        local path = what == "hello-post" and "/bench/hello" or "/v1/accounts/" .. openids[place] .. "/" .. what .. "s"
        return path, '{"amount":1,"reason":"benchmark"}'
    end

    function request()
        sent, place = sent + 1, place % #users + 1
        if what == "page" then
            local before = math.random(51, 100000)
            local path = "/v1/accounts/" .. openids[place] .. "/events?limit=50&before=" .. before
            return wrk.format("GET", path, authorized)
        elseif GETS[what] then
            return gets[place]
        end
        local path, body = post(run .. "-" .. number .. "-" .. sent)
        return wrk.format("POST", path, headers, body)
    end
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\nresult {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"not_2xx":%d,"socket_errors":%d}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
        errors.connect + errors.read + errors.write + errors.timeout))
end
