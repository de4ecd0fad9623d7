//! A trained tensor with what the optimizer keeps beside it.

use peft_kernels::{AdamW, Backend, EightBit, Matrix, Result, Rounding, Tensor};

/// Gradient of a trained tensor, and what the optimizer remembers of earlier ones.
pub struct Moments<B: Backend> {
    /// Sum of the gradients since the last step.
    pub grad: Tensor<B>,
    /// Both moments.
    pub state: OptimizerState<B>,
}

/// Both moments of a tensor.
pub enum OptimizerState<B: Backend> {
    /// Zeros that nobody has looked at; f32 from the first step on.
    Unused,
    /// In f32.
    Float {
        /// First moment.
        m: Tensor<B>,
        /// Second moment.
        v: Tensor<B>,
    },
    /// In 8 bits.
    EightBit {
        /// First moment.
        m: EightBit<B>,
        /// Second moment.
        v: EightBit<B>,
    },
}

impl<B: Backend> OptimizerState<B> {
    /// Zeros in f32 for `[rows, cols]`.
    pub fn float(be: &B, rows: usize, cols: usize) -> Result<Self> {
        Ok(Self::Float { m: be.zeros(rows, cols)?, v: be.zeros(rows, cols)? })
    }

    /// Zeros in 8 bits for `len` elements.
    pub fn eight_bit(be: &B, len: usize) -> Result<Self> {
        Ok(Self::EightBit { m: EightBit::zeros(be, len)?, v: EightBit::zeros(be, len)? })
    }
}

/// A tensor that an adapter (or a full fine-tune) owns.
pub struct Param<B: Backend> {
    /// Its name in the file that is written: the PEFT name, or the checkpoint's.
    pub name: String,
    /// Its shape in that file; a vector is `[1, n]` here and `[n]` there.
    pub is_vector: bool,
    /// Its value.
    pub value: Tensor<B>,
    /// What the base has in its place, where the adapter replaces a vector of the base.
    pub base: Option<Tensor<B>>,
    /// Present while it is trained.
    pub moments: Option<Moments<B>>,
    /// Weight decay applies.
    pub decay: bool,
    /// Multiplies the learning rate (LoRA+).
    pub rate: f64,
}

impl<B: Backend> Param<B> {
    /// A tensor that is only used, not trained.
    pub fn frozen(name: String, value: Tensor<B>, is_vector: bool) -> Self {
        Self { name, is_vector, value, base: None, moments: None, decay: false, rate: 1.0 }
    }

    /// Allocate what training needs.
    pub fn make_trainable(&mut self, be: &B, decay: bool, rate: f64) -> Result<()> {
        let grad = be.zeros(self.value.rows(), self.value.cols())?;
        self.moments = Some(Moments { grad, state: OptimizerState::Unused });
        self.decay = decay;
        self.rate = rate;
        Ok(())
    }

    /// Keep the moments in 8 bits from now on, where that is done: not those of embeddings, whose gradients are zero in
    /// most rows, and not those of the few numbers of norms and biases. bitsandbytes' users leave both in f32 too.
    pub fn use_8bit_moments(&mut self, be: &B) -> Result<()> {
        let adapter = self.name.contains(".lora_");
        let sparse = self.name.ends_with("embed_tokens.weight");
        let len = self.value.len();
        match &mut self.moments {
            Some(moments) if adapter || !(self.is_vector || sparse) => {
                moments.state = OptimizerState::eight_bit(be, len)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Both moments, made where there are none yet.
    pub fn optimizer_state(&mut self, be: &B) -> Result<Option<&mut OptimizerState<B>>> {
        let (rows, cols) = (self.value.rows(), self.value.cols());
        let Some(Moments { state, .. }) = &mut self.moments else { return Ok(None) };
        if let OptimizerState::Unused = state {
            *state = OptimizerState::float(be, rows, cols)?;
        }
        Ok(Some(state))
    }

    /// Moments of zeros again, as before the first step.
    pub fn forget_moments(&mut self, be: &B) -> Result<()> {
        let len = self.value.len();
        if let Some(moments) = &mut self.moments {
            moments.state = match moments.state {
                OptimizerState::EightBit { .. } => OptimizerState::eight_bit(be, len)?,
                OptimizerState::Unused | OptimizerState::Float { .. } => OptimizerState::Unused,
            };
        }
        Ok(())
    }

    /// Shape in the file.
    pub fn file_shape(&self) -> Vec<usize> {
        if self.is_vector { vec![self.value.cols()] } else { vec![self.value.rows(), self.value.cols()] }
    }

    /// Where gradients are added.
    pub fn grad(&mut self) -> Option<&mut Tensor<B>> {
        self.moments.as_mut().map(|m| &mut m.grad)
    }

    /// The value, and where its gradient is added while it is trained.
    pub fn value_and_grad(&mut self) -> (&Tensor<B>, Option<&mut Tensor<B>>) {
        (&self.value, self.moments.as_mut().map(|moments| &mut moments.grad))
    }

    /// To multiply with, and where its gradients are added.
    pub fn matrix_and_grad(&mut self) -> (Matrix<'_, B>, Option<&mut Tensor<B>>) {
        (Matrix::Dense(&self.value), self.moments.as_mut().map(|m| &mut m.grad))
    }

    /// Forget the gradients.
    pub fn zero_grad(&mut self, be: &B) -> Result<()> {
        match &mut self.moments {
            Some(m) => be.fill(m.grad.view_mut(), 0.0),
            None => Ok(()),
        }
    }

    /// One optimizer step; `params.learning_rate` and `weight_decay` are the run's, adjusted here.
    pub fn step(&mut self, be: &B, params: &AdamW) -> Result<()> {
        self.optimizer_state(be)?;
        let Some(Moments { grad, state }) = &mut self.moments else { return Ok(()) };
        let mut own = *params;
        own.learning_rate = (f64::from(params.learning_rate) * self.rate) as f32;
        if !self.decay {
            own.weight_decay = 0.0;
        }
        match state {
            OptimizerState::Float { m, v } => be.adamw(&mut self.value, m, v, grad, &own),
            OptimizerState::EightBit { m, v } => be.adamw_8bit(&mut self.value, m, v, grad, &own, Rounding::Dithered),
            OptimizerState::Unused => Ok(()),
        }
    }
}
