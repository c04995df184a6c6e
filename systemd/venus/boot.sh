#!/bin/sh
# Called once at boot by /data/rc.local: /service and /run are empty then.
ln -sfn /data/apps/solarbridge/service /service/solarbridge
