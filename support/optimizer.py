"""Adam with a pace of its own for log_scale, in one walk through memory on TensorFlow."""

import keras

from networks import register


@register
class Adam(keras.optimizers.Adam):
    """Keras's Adam, the learning rate of log_scale multiplied by `scale_pace`.

    1 is plain Adam. How large it should be: `training.scale_pace`. Decay is the kernels' alone.
    """

    def __init__(self, *args, scale_pace=10.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale_pace = scale_pace
        self.exclude_from_weight_decay(var_names=["log_scale", "bias"])
        # TensorFlow has the same formula in one kernel, which walks through memory once: a
        # third of the time of Keras's seven operations.
        self._fused = keras.backend.backend() == "tensorflow" and not self.amsgrad

    def build(self, variables):
        super().build(variables)
        self._paces = [self.scale_pace if v.name == "log_scale" else 1.0 for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        pace = self._paces[self._get_variable_index(variable)]
        if not self._fused:
            return super().update_step(gradient, variable, pace * learning_rate)
        if self.weight_decay and self._use_weight_decay(variable):
            # Half the memory traffic of Keras's w -= w · decay · rate.
            variable.assign(variable * (1 - learning_rate * self.weight_decay))
        self._fused_update_step(gradient, variable, pace * learning_rate)

    def _apply_weight_decay(self, variables):
        if not self._fused:  # else done in update_step
            super()._apply_weight_decay(variables)

    def _fused_update_step(self, gradient, variable, learning_rate):
        import tensorflow as tf

        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )

    def get_config(self):
        return {**super().get_config(), "scale_pace": self.scale_pace}
