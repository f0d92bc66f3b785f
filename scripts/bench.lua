-- What wrk sends for scripts/bench_run.py: wrk ... -s bench.lua URL -- WHAT RUN PEOPLE
-- RUN is a word that no other run of wrk uses; PEOPLE a file of lines "user openid token".
-- Requests are made here for every contender, so the load generator's own work is the same for those compared.
local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init(args)
    local what, run, people = args[1], args[2], args[3]
    local users, openids, gets, sent = {}, {}, {}, 0
    for line in io.lines(people) do
        local user, openid, token = line:match("(%S+) (%S+) (%S+)")
        users[#users + 1], openids[#openids + 1] = user, openid
        gets[#gets + 1] = wrk.format("GET", what == "credit" and "/credit?token=" .. token or "/bench/hello")
    end
    -- Each thread starts elsewhere, so that two do not walk through the same people side by side.
    local place = number * math.floor(#gets / 2)
    local headers = { Host = wrk.headers["Host"], ["Content-Type"] = "application/json" }
    local paths = { ["hello-post"] = "/bench/hello", grant = "/bench/grant", login = "/login" }

    local function body()
        local unique = run .. "-" .. number .. "-" .. sent
        if what == "login" then
            return '{"code":"dev-' .. users[place] .. "-" .. unique .. '"}'
        end
        return '{"openid":"' .. openids[place] .. '","amount":1,"reason":"benchmark","key":"' .. unique .. '"}'
    end

    function request()
        sent, place = sent + 1, place % #gets + 1
        if paths[what] == nil then
            return gets[place]
        end
        return wrk.format("POST", paths[what], headers, body())
    end
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\nresult {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"not_2xx":%d,"socket_errors":%d}\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
        errors.connect + errors.read + errors.write + errors.timeout))
end
